"""Long tables in which the rows of a prompt lie apart are read twice; what that can't decide goes through buckets."""

from __future__ import annotations

import json
import random
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ways import both_ways

from prefdata.pairing import (
    BelowChosen,
    BestVsWorst,
    CustomRule,
    Highest,
    Longest,
    Lowest,
    NearestLength,
    Random,
    ScoreAtLeast,
    Selection,
    Shortest,
    UltraFeedbackBinarized,
    WPOHybridV1,
    WPOHybridV2,
)
from prefdata.streaming import asked, scattered, stream

SHORTEST = CustomRule(chosen=Selection(by=(Shortest(), Highest())), rejected=Selection(by=(Highest(), Longest())))
SECOND = CustomRule(
    chosen=Selection(among=(ScoreAtLeast(value=2),), by=(Highest(), Random(seed=1))),
    rejected=Selection(among=(BelowChosen(margin=1),), by=(Highest(), NearestLength())),
)
DRAWN = CustomRule(chosen=Selection(by=(Random(seed=2), Highest())), rejected=Selection(by=(Lowest(), Random())))
GOOD = CustomRule(
    chosen=Selection(among=(ScoreAtLeast(value=2),), by=(Shortest(), Lowest())),
    rejected=Selection(by=(Highest(), Shortest())),
)
RULES = (
    WPOHybridV2(),
    WPOHybridV2(length="bytes"),
    WPOHybridV1(threshold=2, margin=0),
    BestVsWorst(),
    UltraFeedbackBinarized(seed=4),
    SHORTEST,
    SECOND,
    DRAWN,
    GOOD,
)


@contextmanager
def watched(monkeypatch):
    """Notes which rows two readings leave, of each table that is read so."""
    left = []
    real = stream._Work.scattered

    def noting(work, folder):
        rows = real(work, folder)
        left.append(rows)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(stream._Work, "scattered", noting)
        yield left


def shuffled(rows, seed=1) -> pa.Table:
    return pa.Table.from_pylist(random.Random(seed).sample(rows, len(rows)))


def clean(prompts=200, answers=5):
    dice = random.Random(3)
    return [
        {
            "prompt": f"prompt {number}",
            "response": f"answer {dice.randrange(4) * 'x'} {index}",
            "score": float(dice.randrange(4)),
            "source": dice.choice("st"),
            "index": index,
        }
        for number in range(prompts)
        for index in range(answers)
    ]


@pytest.mark.parametrize("rule", RULES, ids=range(len(RULES)))
def test_plain_prompts_are_all_decided_by_two_readings(rule, monkeypatch):
    with watched(monkeypatch) as left:
        found = both_ways(shuffled(clean()), rule, piece=2_000, bucket=9_000, group=77)
    (rows,) = left
    # Where nobody is below the chosen answer, or nobody good enough, why is for the other way to say.
    chosen, rejected = rule.selections()
    always = isinstance(chosen.by[0], Highest) and not (chosen.among or rejected.among)
    assert not rows.any() if always else rows.mean() < 0.5
    assert json.loads(found["ledger.json"])["pairs"] > 80


def test_what_two_readings_leave_is_merged_with_the_rest(monkeypatch):
    rows = clean()
    rows[7] |= {"response": " "}
    rows[33] |= {"score": None}
    rows[61] |= {"score": float("inf")}
    rows[500] |= {"response": rows[501]["response"], "score": 9.0}
    rows[501] |= {"score": 0.0}
    rows[703] |= {"prompt": '[{"role": "user", "content": "prompt 20"}]'}
    rows += [{"prompt": "alone", "response": "a", "score": 1.0, "source": "s", "index": 0}]
    with watched(monkeypatch) as left:
        both_ways(shuffled(rows), WPOHybridV2(), piece=2_000, bucket=9_000, group=77)
    again = {row["prompt"] for row, left_ in zip(shuffled(rows).to_pylist(), left[0], strict=True) if left_}
    odd = {f"prompt {number // 5}" for number in (7, 33, 61, 500)}
    assert again == odd | {"prompt 20", rows[703]["prompt"], "alone"}


def test_one_id_for_two_prompts_is_left(monkeypatch):
    rows = [row | {"prompt_id": f"id {row['prompt']}"} for row in clean()]
    rows[0] |= {"prompt": "another prompt"}
    rows[300] |= {"prompt_id": None}
    with watched(monkeypatch) as left:
        both_ways(shuffled(rows), WPOHybridV2(), piece=2_000, bucket=9_000, group=77)
    assert 5 <= left[0].sum() <= 11


def test_answers_that_only_their_place_tells_apart_are_left(monkeypatch):
    rows = [{name: row[name] for name in ("prompt", "response", "score")} for row in clean()]
    with watched(monkeypatch) as left:
        both_ways(shuffled(rows), WPOHybridV2(), piece=2_000, bucket=9_000, group=77)
    assert 0 < left[0].mean() < 0.5


def test_prompts_with_one_hash_are_not_mixed_up(monkeypatch):
    def few(names):
        return np.asarray(names.str.len_bytes().to_numpy()).astype(np.uint64)

    rows = [row | {"source": f"{place}", "response": f"answer {place}"} for place, row in enumerate(clean())]
    with watched(monkeypatch) as left, monkeypatch.context() as patch:
        patch.setattr(asked, "hashes", lambda names, seed=0: few(names) // np.uint64(9 - seed))
        both_ways(shuffled(rows), WPOHybridV2(), piece=2_000, bucket=9_000)
    assert left[0].all()


def test_a_table_of_very_many_sources_is_left(monkeypatch):
    rows = [row | {"source": f"source {number}"} for number, row in enumerate(clean())]
    with watched(monkeypatch) as left, monkeypatch.context() as patch:
        patch.setattr(scattered, "_NAMES", 100)
        both_ways(shuffled(rows), WPOHybridV2(), piece=2_000, bucket=9_000)
    assert left[0].all()


def test_wide_tables_and_tables_of_answers_take_the_other_way(monkeypatch):
    with watched(monkeypatch) as left:
        both_ways(shuffled(clean()), WPOHybridV2(), piece=2_000, bucket=9_000, with_candidates=True)
        both_ways(shuffled(clean()), WPOHybridV2(length="words"), piece=2_000, bucket=9_000)
    assert left == [None, None]


@st.composite
def tables(draw) -> pa.Table:
    """Shuffled; most prompts are plain, some are odd in one way or several."""
    dice = random.Random(draw(st.integers(0, 2**32)))
    odd = draw(st.sampled_from((0.0, 0.02, 0.2)))
    rows = []
    for number in range(draw(st.integers(2, 30))):
        prompt = f"prompt {number}" if dice.random() > odd else dice.choice(("", None, "[", " p", "é", "prompt 1"))
        for index in range(dice.choice((1, 2, 3, 4, 6))):
            is_odd = dice.random() < odd
            rows.append(
                {
                    "prompt": prompt,
                    "prompt_id": f"id {prompt}" if dice.random() > odd else dice.choice((None, "", "id 1")),
                    "response": dice.choice(("", " ", "\x1c", None) if is_odd else ("a", "b", "bb", "é", "ccc")),
                    "score": dice.choice((None, float("nan"), float("inf")) if is_odd else (0.0, -0.0, 1.0, 2.0, 2.5)),
                    "source": dice.choice(("s", "t", None)),
                    "model": dice.choice(("m", "n", None)),
                    "index": dice.choice((0, None)) if is_odd else index,
                    "finish_reason": "length" if is_odd else dice.choice(("stop", None)),
                }
            )
    dice.shuffle(rows)
    kept = {"prompt", "response", "score", *draw(st.sets(st.sampled_from(sorted(rows[0]))))}
    kinds = {"score": pa.float64(), "index": pa.int64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in rows[0] if name in kept])
    return pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
@given(
    table=tables(),
    rule=st.sampled_from(RULES),
    piece=st.sampled_from((1, 300, 2000, 10**7)),
    bucket=st.sampled_from((300, 900, 10**6)),
    group=st.integers(1, 40),
)
def test_any_shuffled_table(table, rule, piece, bucket, group):
    both_ways(table, rule, piece=piece, bucket=bucket, group=group)
