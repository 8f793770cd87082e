"""A build whose gaps are filled from a published dataset of pairs."""

from __future__ import annotations

import json

import polars as pl
import pytest
from replayed import PAIRS, recipe

from prefdata.errors import InputError
from prefdata.flow.build import build
from prefdata.recipe import Profile, Recipe

PUBLISHED = {"kind": "published_pairs", "name": "published", "path": "published.jsonl", "prompt_id_column": "id"}


@pytest.fixture
def published(work):
    rows = [
        {
            "id": f"p{number:02d}",
            "chosen": [
                {"role": "user", "content": f"Question {number}?"},
                {"role": "assistant", "content": f"published {number}"},
            ],
            "rejected": "published, but bad",
            "score_chosen": 8.5,
            "score_rejected": score,
        }
        for number, score in ((0, 3.0), (10, 4.0), (11, 8.5))
    ]
    (work / "published.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return work


def test_a_prompt_without_answers_takes_the_published_pair_and_a_tied_one_stays_out(published):
    built = build(recipe(backfill=PUBLISHED), "out")
    ledger = built.ledger
    assert ledger["pairs"] == PAIRS + 1
    assert ledger["prompts"] == ledger["paired_prompts"] + sum(ledger["drops"].values())
    filled = built.pairs.filter(pl.col("source_chosen") == "published").to_dicts()
    assert [row["prompt_id"] for row in filled] == ["p10"]
    assert filled[0]["chosen"] == [{"role": "assistant", "content": "published 10"}]
    assert (filled[0]["score_chosen"], filled[0]["score_rejected"]) == (8.5, 4.0)
    assert built.drops.filter(pl.col("prompt_id") == "p11")["detail"].item().endswith("; published: no_contrast")


def test_switching_it_on_makes_no_answer_and_no_score_again(published):
    build(recipe(), "out")
    before = {path: path.stat().st_mtime_ns for path in (published / "out" / "stages").rglob("shard-*")}
    build(recipe(backfill=PUBLISHED), "out")
    after = {path: path.stat().st_mtime_ns for path in (published / "out" / "stages").rglob("shard-*")}
    assert before.items() <= after.items()
    assert {path.parent.name.partition("-")[0] for path in after.keys() - before.keys()} == {"candidates", "pairs"}


def test_its_name_is_no_sampler_s_name():
    with pytest.raises(ValueError, match="two candidates have the same name: replayed, replayed"):
        recipe(backfill={**PUBLISHED, "name": "replayed"})


def test_a_profile_can_leave_it_out():
    whole = recipe(backfill=PUBLISHED, profiles={"bare": Profile(without=("backfill",)).dump()})
    assert whole.samplers[-1].name == "published"
    assert whole.with_profile("bare").backfill is None
    assert Recipe.model_validate(whole.dump()) == whole


def test_a_published_table_without_scores_is_refused(published):
    (published / "published.jsonl").write_text('{"id": "p10", "chosen": "a", "rejected": "b"}\n')
    with pytest.raises(InputError, match="has no column 'score_chosen'"):
        build(recipe(backfill=PUBLISHED), "out")
