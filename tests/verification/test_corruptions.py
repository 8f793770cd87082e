"""Every change of a published dataset is reported, with and without recomputed hashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from forgery import recipe, rewrite, rewrite_json, rows, with_hashes_made_again, write_tables

from prefdata.flow.build import build
from prefdata.flow.lock import locked_parts
from prefdata.publish.card.text import ledger_table
from prefdata.scoring import GivenScores
from prefdata.spec import derive_seed
from prefdata.verification import verify

TRAIN = "data/train-00000-of-00001.parquet"
TEST = "data/test-00000-of-00001.parquet"
ANSWERS = "candidates/train-00000-of-00001.parquet"


def change_text(folder: Path) -> str:
    def change(table):
        table[3]["chosen"][0]["content"] += "."

    rewrite(folder / TRAIN, change)
    return rows(folder / TRAIN)[3]["prompt_id"]


def swap(folder: Path) -> str:
    def change(table):
        row = table[5]
        row["chosen"], row["rejected"] = row["rejected"], row["chosen"]

    rewrite(folder / TRAIN, change)
    return rows(folder / TRAIN)[5]["prompt_id"]


def change_score(folder: Path) -> str:
    rewrite(folder / TRAIN, lambda table: table[0].update(score_chosen=table[0]["score_chosen"] + 1))
    return rows(folder / TRAIN)[0]["prompt_id"]


def change_trace(folder: Path) -> str:
    rewrite(folder / TRAIN, lambda table: table[2].update(n_tied_rejected=table[2]["n_tied_rejected"] + 1))
    return rows(folder / TRAIN)[2]["prompt_id"]


def change_prompt(folder: Path) -> str:
    def change(table):
        table[1]["prompt"][0]["content"] = "Another question?"

    rewrite(folder / TRAIN, change)
    return rows(folder / TRAIN)[1]["prompt_id"]


def remove_pair(folder: Path) -> str:
    gone = rows(folder / TRAIN)[4]["prompt_id"]
    rewrite(folder / TRAIN, lambda table: table[:4] + table[5:])
    return gone


def duplicate_pair(folder: Path) -> str:
    rewrite(folder / TRAIN, lambda table: [*table[:5], *table[4:]])
    return rows(folder / TRAIN)[4]["prompt_id"]


def turn_order(folder: Path) -> str:
    rewrite(folder / TRAIN, lambda table: table[::-1])
    return ""


def change_drop(folder: Path) -> str:
    def change(table):
        row = next(row for row in table if row["stage"] == "pairs")
        row["reason"] = "identical_texts" if row["reason"] == "no_contrast" else "no_contrast"

    rewrite(folder / "drops.parquet", change)
    return next(row for row in rows(folder / "drops.parquet") if row["stage"] == "pairs")["prompt_id"]


def remove_drop(folder: Path) -> str:
    gone = next(row for row in rows(folder / "drops.parquet") if row["reason"] == "no_contrast")
    rewrite(folder / "drops.parquet", lambda table: [row for row in table if row != gone])
    return gone["prompt_id"]


def add_drop(folder: Path) -> str:
    paired = rows(folder / TRAIN)[0]["prompt_id"]
    added = {"prompt_id": paired, "stage": "pairs", "reason": "too_few_candidates"}
    added["detail"] = "0 of 0 candidates eligible"
    rewrite(folder / "drops.parquet", lambda table: sorted([*table, added], key=lambda row: row["prompt_id"]))
    return paired


def change_ineligible(folder: Path) -> str:
    def change(table):
        next(row for row in table if row["reason"] == "unscored")["reason"] = "blank"

    dropped = next(row for row in rows(folder / "drops_candidates.parquet") if row["reason"] == "unscored")
    rewrite(folder / "drops_candidates.parquet", change)
    return dropped["prompt_id"]


def change_answers_score(folder: Path) -> str:
    paired = rows(folder / TRAIN)[6]

    def change(table):
        next(row for row in table if row["prompt_id"] == paired["prompt_id"] and row["score"] is not None)["score"] = 9

    rewrite(folder / ANSWERS, change)
    return paired["prompt_id"]


def remove_answers(folder: Path) -> str:
    paired = rows(folder / TRAIN)[6]["prompt_id"]
    rewrite(folder / ANSWERS, lambda table: [row for row in table if row["prompt_id"] != paired])
    return paired


def move_to_test(folder: Path) -> str:
    moved = rows(folder / TRAIN)[2]
    rewrite(folder / TRAIN, lambda table: [row for row in table if row != moved])
    rewrite(folder / TEST, lambda table: sorted([*table, moved], key=lambda row: row["prompt_id"]))
    return moved["prompt_id"]


def change_ledger(folder: Path) -> str:
    rewrite_json(folder / "ledger.json", lambda ledger: ledger["stages"][0].update({"in": 63, "out": 61}))
    return ""


def change_rule(folder: Path) -> str:
    rewrite_json(folder / "recipe.json", lambda dropped: dropped["pairs"].update(length="words"))
    return ""


def change_pins(folder: Path) -> str:
    rewrite_json(folder / "prefdata.lock.json", lambda lock: lock["parts"]["prompts"]["pins"].update(sha256="0" * 64))
    return ""


def change_audit(folder: Path) -> str:
    rewrite_json(folder / "audit.json", lambda audit: audit["measures"].update(chosen_longer=0.5))
    return ""


def change_card(folder: Path) -> str:
    text = (folder / "README.md").read_text("utf-8")
    (folder / "README.md").write_text(text.replace("path: data/test-", "path: data/train-"), "utf-8")
    return ""


def truncate(folder: Path) -> str:
    data = (folder / TRAIN).read_bytes()
    (folder / TRAIN).write_bytes(data[: len(data) // 2])
    return ""


def add_file(folder: Path) -> str:
    (folder / "data" / "extra.parquet").write_bytes((folder / TRAIN).read_bytes())
    return ""


def remove_file(folder: Path) -> str:
    (folder / TEST).unlink()
    return ""


PLANTED = {
    # What is done → kind of the mismatch that names it, field, file.
    change_text: ("field", "chosen", "data/"),
    swap: ("field", "rejected", "data/"),
    change_score: ("field", "score_chosen", "data/"),
    change_trace: ("field", "n_tied_rejected", "data/"),
    change_prompt: ("field", "prompt", "data/"),
    remove_pair: ("pair", None, "data/"),
    duplicate_pair: ("pair", None, "data/train-*"),
    turn_order: ("order", "prompt_id", "data/train-*"),
    change_drop: ("drop", "reason", "drops.parquet"),
    remove_drop: ("drop", None, "drops.parquet"),
    add_drop: ("drop", None, "drops.parquet"),
    change_ineligible: ("ineligible", None, "drops_candidates.parquet"),
    change_answers_score: ("field", "score_chosen", "data/"),
    remove_answers: ("pair", None, "data/train-*"),
    move_to_test: ("split", None, "data/test-*"),
    change_ledger: ("ledger", "stages[0].out", "ledger.json"),
    change_rule: ("lock", "recipe", "prefdata.lock.json"),
    change_pins: ("lock", "parts.prompts.key", "prefdata.lock.json"),
    change_audit: ("audit", "measures.chosen_longer", "audit.json"),
    change_card: ("card", "configs[0].data_files[1].path", "README.md"),
    truncate: ("unreadable", None, TRAIN),
    add_file: ("file", None, "data/extra.parquet"),
    remove_file: ("pair", None, "data/"),
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_each_change_is_found_and_named(dataset, plant):
    prompt_id = plant(dataset)
    what, field, where = PLANTED[plant]

    plain = verify(dataset, keep=None)
    hidden = verify(with_hashes_made_again(dataset), keep=None)

    assert plain.counts["manifest"] >= 1
    assert hidden.counts["manifest"] == 0
    for report in (plain, hidden):
        assert not report.holds
        assert [
            dropped
            for dropped in report.mismatches
            if (dropped.what, dropped.field, dropped.where) == (what, field, where)
            and (not prompt_id or dropped.prompt_id == prompt_id)
            and dropped.expected != dropped.found
        ]


def test_no_column_of_a_pair_can_be_changed(dataset):
    before = (dataset / TRAIN).read_bytes()
    first = rows(dataset / TRAIN)[0]
    assert len(first) > 20
    for name, value in first.items():
        if isinstance(value, list):
            other = [*value, *value]
        elif isinstance(value, str):
            other = value + "x"
        else:
            other = 1 if value is None else value + 1
        if value is None and name.startswith("model"):
            other = "a model"
        rewrite(dataset / TRAIN, lambda table, name=name, other=other: table[0].update({name: other}))
        report = verify(with_hashes_made_again(dataset), keep=None)
        if name in ("prompt_id", "pair_index"):
            assert report.counts["pair"] == 2
        else:
            drawn = [("picture", "")] if name == "score_margin" else []
            assert [(dropped.what, dropped.field) for dropped in report.mismatches] == [("field", name), *drawn]
        (dataset / TRAIN).write_bytes(before)


@pytest.mark.parametrize(
    ("plant", "what"),
    [
        (swap, "field"),
        (change_score, "field"),
        (change_trace, "field"),
        (remove_pair, "ledger"),
        (duplicate_pair, "pair"),
        (move_to_test, "split"),
        (add_drop, "drop"),
        (remove_drop, "ledger"),
        (change_prompt, "field"),
        (change_ineligible, "ledger"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_without_the_answers_much_is_still_found(dataset, plant, what):
    if plant is change_trace:
        rewrite(dataset / TRAIN, lambda table: table[2].update(n_tied_rejected=table[2]["n_eligible"] + 1))
    else:
        plant(dataset)
    (dataset / ANSWERS).unlink()
    report = verify(with_hashes_made_again(dataset), keep=None)
    assert report.counts[what] >= 1


def test_the_sum_of_samplers_that_name_answers_by_model_is_counted_again(tmp_path, monkeypatch):
    write_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    samplers = [{**sampler.dump(), "source": "model", "model_column": "model"} for sampler in recipe().candidates]
    where = build(recipe(candidates=samplers), "build").dataset
    assert {row["source"] for row in rows(where / ANSWERS)} == {"policy-0", "policy-1", "teacher-0"}
    assert verify(where).mismatches == []
    rewrite_json(where / "ledger.json", lambda ledger: ledger["stages"][1].update({"in": 1, "out": 1}))
    report = verify(with_hashes_made_again(where))
    assert any(dropped.expected.startswith("'2") and dropped.what == "ledger" for dropped in report.mismatches)


def test_the_place_where_a_judge_saw_an_answer_is_found_again_for_the_audit(tmp_path, monkeypatch):
    def shown_order(self, answers, context):
        order = derive_seed(context.seed, answers.prompt.prompt_id, answers.prompt.messages[0]["content"]) % 5
        return tuple(sorted(answers.candidates, key=lambda each: (each.index + order) % 5))

    monkeypatch.setattr(GivenScores, "shown_order", shown_order)
    write_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    where = build(recipe(), "build").dataset
    audit = json.loads((where / "audit.json").read_text("utf-8"))
    assert audit["counts"]["score_place_groups"] > 20
    assert verify(where).mismatches == []
    rewrite_json(where / "audit.json", lambda dropped: dropped["measures"].update(score_place_correlation=0.0))
    (dropped,) = (each for each in verify(where).mismatches if each.what != "manifest")
    assert dropped.field == "measures.score_place_correlation"

    rewrite(where / ANSWERS, lambda table: table[0].update(response=None))
    rewrite(where / ANSWERS, lambda table: table[9].update(prompt=[{"role": "user", "content": None}]))
    assert verify(with_hashes_made_again(where), keep=None).counts["answer"] == 1


def test_a_filled_pair_is_made_again_too(tmp_path, monkeypatch):
    write_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    backfill = {"kind": "published_pairs", "name": "published", "path": "published.jsonl"}
    where = build(recipe(backfill=backfill), "build").dataset
    position = next(n for n, row in enumerate(rows(where / TRAIN)) if row["source_rejected"] == "published")
    rewrite(where / TRAIN, lambda table: table[position]["rejected"][0].update(content="worse"))
    (dropped,) = verify(with_hashes_made_again(where)).mismatches
    assert (dropped.field, dropped.prompt_id) == ("rejected", rows(where / TRAIN)[position]["prompt_id"])


def test_the_manifest_names_exactly_the_files_that_changed(dataset):
    change_text(dataset)
    change_ledger(dataset)
    report = verify(dataset, keep=None)
    assert {dropped.where for dropped in report.mismatches if dropped.what == "manifest"} == {TRAIN, "ledger.json"}


def test_one_change_is_one_mismatch(dataset):
    prompt_id = change_text(dataset)
    report = verify(with_hashes_made_again(dataset))
    (dropped,) = report.mismatches
    assert (dropped.prompt_id, dropped.field, dropped.where) == (prompt_id, "chosen", "data/")
    assert eval(dropped.found)[0]["content"] == eval(dropped.expected)[0]["content"] + "."


def test_a_forger_who_makes_lock_card_and_hashes_anew_is_told_by_the_pairs_alone(dataset):
    forged = recipe(pairs={"kind": "best_vs_worst"})
    lock = json.loads((dataset / "prefdata.lock.json").read_text("utf-8"))
    card = (dataset / "README.md").read_text("utf-8")
    parts = locked_parts(forged, {name: part["pins"] for name, part in lock["parts"].items()})
    card = card.replace(lock["recipe"], forged.fingerprint())
    for name, part in parts.items():
        card = card.replace(lock["parts"][name]["key"], part["key"])
        lock["parts"][name] |= part
    lock["recipe"] = forged.fingerprint()
    (dataset / "prefdata.lock.json").write_text(json.dumps(lock), "utf-8")
    (dataset / "recipe.json").write_text(json.dumps(forged.dump()), "utf-8")
    (dataset / "README.md").write_text(card, "utf-8")
    report = verify(with_hashes_made_again(dataset), keep=None)
    assert report.counts["field"] > 0
    assert set(report.counts) <= {"field", "audit"}


def test_a_forger_who_drops_a_pair_and_counts_again_is_told_by_the_answers(dataset):
    gone = rows(dataset / TRAIN)[4]["prompt_id"]
    remove_pair(dataset)
    drop = {"prompt_id": gone, "stage": "pairs", "reason": "no_contrast", "detail": "5 of 5 candidates eligible"}
    rewrite(dataset / "drops.parquet", lambda table: sorted([*table, drop], key=lambda row: row["prompt_id"]))

    def count(ledger):
        for counts in (ledger["drops"], ledger["stages"][-1]["drops"]):
            counts["no_contrast"] += 1
        ledger["pairs"] -= 1
        ledger["paired_prompts"] -= 1
        ledger["stages"][-1]["out"] -= 1

    before = ledger_table(json.loads((dataset / "ledger.json").read_text("utf-8")))
    rewrite_json(dataset / "ledger.json", count)
    after = ledger_table(json.loads((dataset / "ledger.json").read_text("utf-8")))
    card = (dataset / "README.md").read_text("utf-8").replace(before, after)
    (dataset / "README.md").write_text(card, "utf-8")
    report = verify(with_hashes_made_again(dataset), keep=None)
    assert {(dropped.what, dropped.prompt_id) for dropped in report.mismatches} >= {("pair", gone), ("drop", gone)}
