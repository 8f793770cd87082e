"""`prefdata pair` has the options of a recipe, with the same meaning."""

from __future__ import annotations

import json
import random

import pyarrow.parquet as pq
import pytest


def table(prompts=12, answers=4):
    return [
        {"prompt": f"Question {number}?", "response": f"{number} {'x' * score * 5}", "score": score}
        for number in range(prompts)
        for score in range(answers)
    ]


def rows_of(folder, name="data/train"):
    return pq.ParquetFile(folder / f"{name}-00000-of-00001.parquet").read().to_pylist()


@pytest.fixture
def pairs(prefdata, write_table, tmp_path):
    made = iter(range(1_000))

    def run(rows, *options, name="t.jsonl"):
        place = tmp_path / f"run{next(made)}"
        place.mkdir()
        path = write_table(place / name, rows)
        said = prefdata("pair", path, "--rule", "best_vs_worst", "--out", place / "out", "--json", *options)
        assert said.code == 0, said.err
        # What the folder says of itself, the table says again.
        for more in ([], ["--table", path]):
            checked = prefdata("verify", place / "out", *more)
            assert checked.code == 0, checked.out + checked.err
        return place / "out"

    return run


def shuffled(rows):
    rows = [*rows]
    random.Random(3).shuffle(rows)
    return rows


@pytest.mark.parametrize("order", [list, shuffled])
@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_every_option_in_any_order_of_rows(pairs, order, name):
    options = ["--test-size", "3", "--also", "kto,full_conversation", "--limit", "8", "--min-margin", "2"]
    out = pairs(order(table()), *options, name=name)
    train, test = rows_of(out), rows_of(out, "data/test")
    assert (len(train), len(test)) == (5, 3)
    assert len(rows_of(out, "kto/train")) == 10
    assert len(rows_of(out, "full_conversation/test")) == 3
    first = list(dict.fromkeys(row["prompt"] for row in order(table())))[:8]
    assert {row["prompt"][0]["content"] for row in (*train, *test)} == set(first)
    recipe = json.loads((out / "recipe.json").read_text())
    assert (recipe["limit"], recipe["dataset"]["test_size"], recipe["pairs"]["min_margin"]) == (8, 3, 2.0)


def test_conditions_hold_for_every_pair(pairs):
    for row in rows_of(pairs(table(), "--max-length-difference", "10")):
        assert 0 < row["length_chosen"] - row["length_rejected"] <= 10
    for row in rows_of(pairs(table(), "--test-size", "0.25", "--min-margin", "3")):
        assert row["score_margin"] >= 3


@pytest.mark.parametrize("order", [list, shuffled])
def test_the_layout_of_snorkel_has_all_answers(pairs, order):
    out = pairs(order(table(3)), "--layout", "snorkel")
    rows = rows_of(out, "data/train_iteration_1")
    assert {len(row["all_rm_scores"]) for row in rows} == {4}
    assert len(rows_of(out, "trace/train_iteration_1")) == 3


def test_answers_without_a_name_get_one_that_no_order_changes(pairs):
    rows = [*table(4), {"prompt": "Question 0?", "response": "odd", "score": 9, "finish_reason": "odd"}]
    rows = [{"finish_reason": None, **row} for row in rows]
    outs = [pairs(order(rows), "--with-candidates") for order in (list, shuffled)]
    for name in ("data/train-00000-of-00001.parquet", "candidates/train-00000-of-00001.parquet"):
        assert outs[0].joinpath(name).read_bytes() == outs[1].joinpath(name).read_bytes()
    texts = {(row["prompt_id"], row["index"]): row["response"] for row in rows_of(outs[0], "candidates/train")}
    assert len(texts) == len(rows)
    for row in rows_of(outs[0]):
        for side in ("chosen", "rejected"):
            assert texts[row["prompt_id"], row[f"index_{side}"]] == row[side][0]["content"]
    [drop] = pq.ParquetFile(outs[0] / "drops_candidates.parquet").read().to_pylist()
    assert texts[drop["prompt_id"], drop["index"]] == "odd"
    assert json.loads((outs[0] / "audit.json").read_text())["measures"]["score_index_correlation"] is None


def test_answers_with_a_name_keep_it(pairs):
    out = pairs([{**row, "source": "policy", "index": row["score"]} for row in table(2)])
    assert {(row["source_chosen"], row["index_chosen"]) for row in rows_of(out)} == {("policy", 3)}
    assert set(json.loads((out / "recipe.json").read_text())) == {"table", "columns", "pairs"}


def test_mistakes_are_one_message(prefdata, write_table, tmp_path):
    path = write_table(tmp_path / "t.jsonl", table(2))
    for option, word in (
        (["--layout", "kto"], "trl, snorkel"),
        (["--also", "nothing"], "full_conversation"),
        (["--also", "kto,kto"], "same kind"),
        (["--test-size", "1.5"], "a whole number, or a share"),
    ):
        said = prefdata("pair", path, "--rule", "best_vs_worst", "--out", tmp_path / "out", *option)
        assert said.code == 2
        assert word in said.err
    base = ["pair", path, "--rule", "best_vs_worst", "--out", tmp_path / "out"]
    assert prefdata(*base).code == 0
    refused = prefdata(*base, "--limit", "1")
    assert refused.code == 2
    assert "a finished dataset of 2 prompts" in refused.err
    assert prefdata(*base, "--limit", "1", "--replace").code == 0
