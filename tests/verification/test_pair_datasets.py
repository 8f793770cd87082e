"""Datasets of `prefdata pair`: with their table, with their answers, and with neither."""

from __future__ import annotations

import json
import random

import pytest
from forgery import rewrite, rewrite_json, rows, with_hashes_made_again

from prefdata.pairing import rule_named

ANSWERS = "candidates/train-00000-of-00001.parquet"
TRAIN = "data/train-00000-of-00001.parquet"


def table_rows():
    draw = random.Random(3)
    found = [
        {"prompt": f"Q{number % 50}", "response": f"A{draw.randrange(60)}", "score": draw.choice([1, 2, 3, None])}
        for number in range(230)
    ]
    conflicting = [{"prompt_id": "twice", "prompt": text, "response": "r", "score": 1} for text in ("one", "two")]
    return [*({"prompt_id": None, **row} for row in found), *conflicting]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in table_rows()), "utf-8")
    return path


@pytest.fixture
def paired(prefdata, table):
    def run(*options):
        said = prefdata("pair", table, "--rule", "best_vs_worst", "--out", table.parent / "out", "--json", *options)
        assert (said.code, said.err) == (0, "")
        return table.parent / "out"

    return run


@pytest.fixture
def verified(prefdata):
    def run(*arguments):
        said = prefdata("verify", *arguments, "--json")
        assert said.err == ""
        found = json.loads(said.out)
        assert said.code == (0 if found["holds"] else 1)
        return found

    return run


def test_with_its_table_everything_is_checked(paired, verified, table):
    for options in ((), ("--with-candidates",), ()):
        found = verified(paired(*options), "--table", table)
        assert (found["mismatches"], found["not_checked"]) == ([], [])
        assert "the table, by its hash in the lock" in found["checked"]
    assert not (table.parent / "out" / "candidates").exists()


def test_with_its_answers_it_needs_no_table(paired, verified):
    found = verified(paired("--with-candidates"))
    assert (found["mismatches"], found["not_checked"]) == ([], [])
    assert "every pair, split and drop, rebuilt from the answers" in found["checked"]


@pytest.mark.parametrize("rule", sorted(rule_named()))
def test_every_named_rule_is_made_again(prefdata, verified, table, rule):
    out = table.parent / rule
    said = prefdata("pair", table, "--rule", rule, "--out", out, "--with-candidates", "--json")
    if said.code == 2:
        # It needs comparisons, or more than its name.
        assert "comparisons" in said.err or "needs more than its name" in said.err
        return
    assert verified(out)["mismatches"] == []
    (out / ANSWERS).unlink()
    alone = verified(with_hashes_made_again(out), "--table", table)
    assert {each["what"] for each in alone["mismatches"]} == {"card"}


def test_with_neither_the_output_says_what_was_not_checked(paired, verified, prefdata):
    folder = paired()
    found = verified(folder)
    assert found["mismatches"] == []
    assert any("--table gives them" in what for what in found["not_checked"])
    said = prefdata("verify", folder)
    assert "not checked  pairs, drops and audit" in said.out
    assert "Everything that was checked holds." in said.out


def test_files_of_other_people_are_never_replaced_whatever_the_manifest_lists(paired, prefdata, table):
    folder = paired("--with-candidates")
    (folder / "notes.txt").write_text("mine")
    said = prefdata("pair", table, "--rule", "best_vs_worst", "--out", folder)
    assert said.code == 2
    assert "'notes.txt'" in said.err
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / ANSWERS).exists()


@pytest.mark.parametrize("how", ["table", "answers"])
def test_a_changed_pair_is_found_although_hashes_were_made_again(paired, verified, table, how):
    folder = paired(*(["--with-candidates"] if how == "answers" else []))

    def worsen(found):
        found[2]["rejected"][0]["content"] += "!"
        found[2]["length_rejected"] += 1

    rewrite(folder / TRAIN, worsen)
    found = verified(with_hashes_made_again(folder), *(["--table", table] if how == "table" else []))
    prompt_id = rows(folder / TRAIN)[2]["prompt_id"]
    assert {(each["what"], each["prompt_id"], each["field"]) for each in found["mismatches"]} == {
        ("field", prompt_id, "rejected"),
        ("field", prompt_id, "length_rejected"),
    }


def test_another_table_is_told_by_its_hash(paired, verified, table):
    folder = paired()
    changed = table_rows()
    changed[0]["score"] = 2 if changed[0]["score"] != 2 else 1
    table.write_text("".join(json.dumps(row) + "\n" for row in changed), "utf-8")
    found = verified(folder, "--table", table)
    assert "table" in found["counts"]


def test_answers_that_are_not_those_of_the_table_are_found(paired, verified, table):
    folder = paired("--with-candidates")
    rewrite(folder / ANSWERS, lambda found: found[-1].update(score=2.75, unscored=None))
    found = verified(with_hashes_made_again(folder), "--table", table)
    assert found["counts"]["answer"] == sum(each["what"] == "answer" for each in found["mismatches"]) > 0


def test_a_forged_count_of_answers_of_dropped_prompts_is_found_with_the_table(paired, verified, table):
    folder = paired()

    def forge(ledger):
        ledger["candidates"] += 5
        ledger["ineligible"]["of_dropped_prompts"] += 5
        ledger["stages"][0]["in"] += 5
        ledger["stages"][0]["drops"]["of_dropped_prompts"] += 5

    rewrite_json(folder / "ledger.json", forge)
    found = verified(with_hashes_made_again(folder), "--table", table)
    assert {each["field"] for each in found["mismatches"] if each["what"] == "ledger"} >= {"candidates"}


def test_the_table_of_a_build_is_a_users_mistake(built, table, prefdata):
    said = prefdata("verify", built, "--table", table)
    assert (said.code, said.out) == (2, "")
    assert "--table for datasets of `prefdata pair`" in said.err
