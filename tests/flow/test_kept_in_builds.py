"""A recipe's `keep`: columns of prompts and of recorded answers travel along to the dataset of a build."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from replayed import recipe, tree

from prefdata.errors import InputError, RecipeError
from prefdata.flow.build import build
from prefdata.verification import verify

PART = "train-00000-of-00001"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def marked(work):
    """The tables of `replayed`, with columns to keep."""
    for name, more in (("prompts", "category"), ("answers", "level")):
        rows = [json.loads(line) for line in (work / f"{name}.jsonl").read_text().splitlines()]
        write(work / f"{name}.jsonl", [{**row, more: {"of": row["id"]} if name == "prompts" else 7} for row in rows])
    return work


def kept(**changes):
    made = recipe(**changes).dump()
    made["prompts"]["keep"] = ["category"]
    made["candidates"][0]["keep"] = ["level"]
    return recipe(**{**changes, "prompts": made["prompts"], "candidates": made["candidates"]})


def rows_of(folder, name):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def test_kept_columns_are_in_pairs_answers_and_drops(marked):
    built = build(kept(also=[{"kind": "kto"}]), "out")
    names = [f"data/{PART}", f"data/{PART.replace('train', 'test')}", f"candidates/{PART}", f"kto/{PART}", "drops"]
    for name in names:
        for row in rows_of(built.dataset, name):
            assert json.loads(row["category"]) == {"of": row["prompt_id"]}
            # The eleventh prompt has no answer; the blank row is no prompt, which nobody answers.
            assert row["level"] == (None if row["prompt_id"] in ("p10", "blank") else 7)
    assert "`category`, `level`" in (built.dataset / "README.md").read_text()
    report = verify(built.folder)
    assert not report.mismatches, report.mismatches


def test_a_row_without_an_answer_keeps_its_columns(work):
    rows = [json.loads(line) for line in (work / "answers.jsonl").read_text().splitlines()]
    lists: dict[str, list[dict]] = {row["id"]: [] for row in rows}
    for row in rows:
        if row["id"] != "p03":
            lists[row["id"]].append(row)
    write(work / "answers.jsonl", [{"id": key, "completions": answers, "level": 7} for key, answers in lists.items()])
    made = recipe().dump()
    made["candidates"][0] |= {"completions_column": "completions", "keep": ["level"]}
    built = build(recipe(candidates=made["candidates"]), "out")
    (lost,) = (row for row in rows_of(built.dataset, "drops_candidates") if row["prompt_id"] == "p03")
    assert (lost["reason"], lost["level"]) == ("no_completion", 7)


def test_shards_and_a_second_run_change_nothing(marked):
    whole = tree(build(kept(), "out").dataset)
    assert tree(build(kept(), "cut", shard_size=5, reuse=False).dataset) == whole
    assert tree(build(kept(), "out").dataset) == whole


def test_nothing_kept_is_as_it_was(work):
    before = recipe().fingerprint()
    assert "keep" not in json.dumps(recipe().dump())
    assert recipe(prompts={**recipe().prompts.dump(), "keep": []}).fingerprint() == before
    assert kept().fingerprint() != before


def test_a_filter_keeps_the_columns_of_what_it_drops(marked):
    built = build(kept(filters=[{"kind": "length", "at_least": 12}]), "out")
    rows = [row for row in rows_of(built.dataset, "drops") if row["reason"] == "too_short"]
    assert len(rows) == 10
    assert all(json.loads(row["category"]) == {"of": row["prompt_id"]} for row in rows)


def test_of_rows_that_repeat_a_prompt_the_first_counts(marked, capsys):
    rows = [json.loads(line) for line in (marked / "prompts.jsonl").read_text().splitlines()]
    write(marked / "prompts.jsonl", [*rows, {**rows[0], "category": "another"}])
    built = build(kept(), "out")
    assert {row["category"] for row in rows_of(built.dataset, f"candidates/{PART}")}.isdisjoint({"another"})
    assert "duplicates_with_other_kept_values 1" in capsys.readouterr().err


def test_an_answer_s_column_must_belong_to_the_prompt(marked):
    rows = [json.loads(line) for line in (marked / "answers.jsonl").read_text().splitlines()]
    write(marked / "answers.jsonl", [{**row, "level": at} for at, row in enumerate(rows)])
    with pytest.raises(InputError, match="another row of the same prompt"):
        build(kept(), "out")


@pytest.mark.parametrize("names", [["score"], ["a", "a"], ["level"]])
def test_names_that_cant_be_kept_are_refused_when_the_recipe_is_made(names):
    made = kept().dump()["prompts"]
    with pytest.raises((RecipeError, ValueError), match="kept"):
        kept().replace(prompts={**made, "keep": names})


def test_a_column_that_is_not_there_is_one_message(work):
    with pytest.raises(InputError, match="has no column 'category'"):
        build(kept(), "out")
