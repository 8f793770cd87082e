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
    report = [
        {"prompt": f"Q{number % 50}", "response": f"A{draw.randrange(60)}", "score": draw.choice([1, 2, 3, None])}
        for number in range(230)
    ]
    conflicting = [{"prompt_id": "twice", "prompt": text, "response": "r", "score": 1} for text in ("one", "two")]
    return [*({"prompt_id": None, **row} for row in report), *conflicting]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in table_rows()), "utf-8")
    return path


@pytest.fixture
def paired(prefdata, table):
    def run(*options):
        result = prefdata("pair", table, "--rule", "best_vs_worst", "--out", table.parent / "out", "--json", *options)
        assert (result.code, result.err) == (0, "")
        return table.parent / "out"

    return run


@pytest.fixture
def verified(prefdata):
    def run(*arguments):
        result = prefdata("verify", *arguments, "--json")
        assert result.err == ""
        report = json.loads(result.out)
        assert result.code == (0 if report["holds"] else 1)
        return report

    return run


def test_with_its_table_everything_is_checked(paired, verified, table):
    for options in ((), ("--with-candidates",), ()):
        report = verified(paired(*options), "--table", table)
        assert (report["mismatches"], report["not_checked"]) == ([], [])
        assert "the table, by its hash in the lock" in report["checked"]
    assert not (table.parent / "out" / "candidates").exists()


def test_with_its_answers_it_needs_no_table(paired, verified):
    report = verified(paired("--with-candidates"))
    assert (report["mismatches"], report["not_checked"]) == ([], [])
    assert "every pair, split and drop, rebuilt from the answers" in report["checked"]


@pytest.mark.parametrize("rule", sorted(rule_named()))
def test_every_named_rule_is_made_again(prefdata, verified, table, rule):
    out = table.parent / rule
    result = prefdata("pair", table, "--rule", rule, "--out", out, "--with-candidates", "--json")
    if result.code == 2:
        # It needs comparisons, or more than its name.
        assert "comparisons" in result.err or "needs more than its name" in result.err
        return
    assert verified(out)["mismatches"] == []
    (out / ANSWERS).unlink()
    alone = verified(with_hashes_made_again(out), "--table", table)
    assert {each["what"] for each in alone["mismatches"]} == {"card"}


def test_with_neither_the_output_says_what_was_not_checked(paired, verified, prefdata):
    folder = paired()
    report = verified(folder)
    assert report["mismatches"] == []
    assert any("--table gives them" in what for what in report["not_checked"])
    result = prefdata("verify", folder)
    assert "not checked  pairs, drops and audit" in result.out
    assert "Everything that was checked holds." in result.out


def test_files_of_other_people_are_never_replaced_whatever_the_manifest_lists(paired, prefdata, table):
    folder = paired("--with-candidates")
    (folder / "notes.txt").write_text("mine")
    result = prefdata("pair", table, "--rule", "best_vs_worst", "--out", folder)
    assert result.code == 2
    assert "'notes.txt'" in result.err
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / ANSWERS).exists()


@pytest.mark.parametrize("how", ["table", "answers"])
def test_a_changed_pair_is_found_although_hashes_were_made_again(paired, verified, table, how):
    folder = paired(*(["--with-candidates"] if how == "answers" else []))

    def worsen(report):
        report[2]["rejected"][0]["content"] += "!"
        report[2]["length_rejected"] += 1

    rewrite(folder / TRAIN, worsen)
    report = verified(with_hashes_made_again(folder), *(["--table", table] if how == "table" else []))
    prompt_id = rows(folder / TRAIN)[2]["prompt_id"]
    assert {(each["what"], each["prompt_id"], each["field"]) for each in report["mismatches"]} == {
        ("field", prompt_id, "rejected"),
        ("field", prompt_id, "length_rejected"),
    }


def test_another_table_is_told_by_its_hash(paired, verified, table):
    folder = paired()
    changed = table_rows()
    changed[0]["score"] = 2 if changed[0]["score"] != 2 else 1
    table.write_text("".join(json.dumps(row) + "\n" for row in changed), "utf-8")
    report = verified(folder, "--table", table)
    assert "table" in report["counts"]


def test_answers_that_are_not_those_of_the_table_are_found(paired, verified, table):
    folder = paired("--with-candidates")
    rewrite(folder / ANSWERS, lambda report: report[-1].update(score=2.75, unscored=None))
    report = verified(with_hashes_made_again(folder), "--table", table)
    assert report["counts"]["answer"] == sum(each["what"] == "answer" for each in report["mismatches"]) > 0


def test_a_forged_count_of_answers_of_dropped_prompts_is_found_with_the_table(paired, verified, table):
    folder = paired()

    def forge(ledger):
        ledger["candidates"] += 5
        ledger["ineligible"]["of_dropped_prompts"] += 5
        ledger["stages"][0]["in"] += 5
        ledger["stages"][0]["drops"]["of_dropped_prompts"] += 5

    rewrite_json(folder / "ledger.json", forge)
    report = verified(with_hashes_made_again(folder), "--table", table)
    assert {each["field"] for each in report["mismatches"] if each["what"] == "ledger"} >= {"candidates"}


def test_the_table_of_a_build_is_a_users_mistake(built, table, prefdata):
    result = prefdata("verify", built, "--table", table)
    assert (result.code, result.out) == (2, "")
    assert "--table for datasets of `prefdata pair`" in result.err
