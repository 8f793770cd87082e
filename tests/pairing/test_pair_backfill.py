"""Prompts that give no pair take the pair of another dataset."""

from __future__ import annotations

import polars as pl
import pytest

from prefdata.pairing import BestVsWorst, WPOHybridV1, pair_with_backfill

SCHEMA = {
    "prompt_id": pl.String,
    "source": pl.String,
    "index": pl.Int64,
    "response": pl.String,
    "score": pl.Float64,
}
ROWS = [
    ("contrast", "policy", 0, "good", 5.0),
    ("contrast", "policy", 1, "bad", 1.0),
    ("contrast", "published", 0, "published good", 9.0),
    ("contrast", "published", 1, "published bad", 8.0),
    ("equal", "policy", 0, "one", 3.0),
    ("equal", "policy", 1, "two", 3.0),
    ("equal", "published", 0, "published good", 9.0),
    ("equal", "published", 1, "published bad", 8.0),
    ("tied", "policy", 0, "one", 3.0),
    ("tied", "published", 0, "published good", 8.0),
    ("tied", "published", 1, "published bad", 8.0),
    ("alone", "policy", 0, "one", 3.0),
]
IDS = ["contrast", "equal", "tied", "alone", "unanswered"]


def paired(rule=None, source="published", rows=ROWS):
    return pair_with_backfill(rule or BestVsWorst(), pl.DataFrame(rows, SCHEMA, orient="row"), IDS, source)


def test_only_prompts_without_a_pair_are_filled_and_marked_by_source():
    pairs = paired().pairs
    assert pairs.select("prompt_id", "source_chosen", "response_chosen", "response_rejected").rows() == [
        ("contrast", "policy", "good", "bad"),
        ("equal", "published", "published good", "published bad"),
    ]
    assert pairs["n_candidates"].to_list() == [2, 2]


def test_what_is_left_says_both_reasons():
    drops = paired().drops
    assert dict(drops.select("prompt_id", "reason").iter_rows()) == {
        "alone": "too_few_candidates",
        "tied": "too_few_candidates",
        "unanswered": "too_few_candidates",
    }
    details = dict(drops.select("prompt_id", "detail").iter_rows())
    assert details["tied"].endswith("; published: no_contrast")
    assert details["alone"].endswith("; published: too_few_candidates")


def test_the_rule_never_sees_the_published_answers():
    without = [row for row in ROWS if row[1] != "published"]
    rule = BestVsWorst().pair(pl.DataFrame(without, SCHEMA, orient="row"), IDS)
    kept = paired().pairs.filter(pl.col("source_chosen") != "published")
    assert kept.equals(rule.pairs)


def test_without_a_source_nothing_is_filled():
    rows = [row for row in ROWS if row[1] != "published"]
    assert paired(source=None, rows=rows).pairs["prompt_id"].to_list() == ["contrast"]


@pytest.mark.parametrize("rule", [BestVsWorst(length="words"), WPOHybridV1()], ids=lambda rule: rule.kind)
def test_every_prompt_is_accounted_for_in_any_order(rule):
    first, second = paired(rule), paired(rule, rows=ROWS[::-1])
    assert first.pairs.equals(second.pairs)
    assert first.drops.equals(second.drops)
    assert sorted([*first.pairs["prompt_id"], *first.drops["prompt_id"]]) == sorted(IDS)
