"""Filters, keys and rules of several pairs on tables small enough to check by eye."""

from __future__ import annotations

from typing import Any, Literal

import polars as pl
import pytest
from pydantic import TypeAdapter

from prefdata.pairing import DNO, AnyRule, BestVsWorst, MarginLabel, PairRule, Repetition, TopKVsBottomK
from prefdata.pairing.repetition import repeated_share

ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyRule)


def table(*rows: tuple[str, float, str]) -> pl.DataFrame:
    """Answers as (source, score, response); the index is the place."""
    return pl.DataFrame(
        [("p", source, index, response, score, "stop") for index, (source, score, response) in enumerate(rows)],
        schema=["prompt_id", "source", "index", "response", "score", "finish_reason"],
        orient="row",
    )


def rejecting(*among: dict[str, Any], by: str = "highest", **options: Any) -> PairRule:
    """Highest against the highest lower one that the filters admit."""
    chosen = {"by": [{"kind": "highest"}]}
    rule: PairRule = ADAPTER.validate_python(
        {"kind": "custom", "chosen": chosen, "rejected": {"among": list(among), "by": [{"kind": by}]}, **options}
    )
    return rule


def rejected(rule: PairRule, candidates: pl.DataFrame) -> str | None:
    paired = rule.pair(candidates)
    assert paired.pairs.is_empty() or paired.pairs.height == 1
    return None if paired.pairs.is_empty() else str(paired.pairs["response_rejected"][0])


@pytest.mark.parametrize("text", ["the  answer", " the answer", "the answer\n", "the\u3000answer", "the\x1canswer"])
def test_a_text_that_differs_in_white_space_only_is_identical_if_the_rule_says_so(text: str) -> None:
    candidates = table(("a", 3, "the answer"), ("a", 2, text), ("a", 1, "another"))
    exact = {"identical": "exact"}
    assert rejected(rejecting({"kind": "not_identical"}, **exact), candidates) == "another"
    assert rejected(rejecting({"kind": "not_identical", "how": "exact"}, **exact), candidates) == text
    assert rejected(rejecting({"kind": "not_identical", "how": "exact"}), candidates) == "another"


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"at_least": 0.75}, None),
        ({"at_least": 0.5}, "two"),
        ({"at_most": 0.5}, "two"),
        ({"at_most": 0.49}, "one"),
        ({"at_least": 0.25, "at_most": 0.25}, "one"),
        ({"at_most": 0.24}, None),
    ],
)
def test_a_quantile_is_the_share_of_scores_that_are_not_higher(bounds: dict[str, float], expected: str | None) -> None:
    # Shares: one 1/4, two 2/4, and 4/4 for the two tied best; who is not eligible doesn't count.
    candidates = table(("a", 1, "one"), ("a", 2, "two"), ("a", 3, "best"), ("b", 3, "as good"), ("b", 0, " "))
    assert rejected(rejecting({"kind": "quantile", **bounds}), candidates) == expected


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [({"at_most": 2}, "x" * 8), ({"at_most": 1.99}, "xx"), ({"at_least": 0.5}, "x" * 9), ({"at_least": 2.3}, None)],
)
def test_a_length_ratio_includes_its_bounds(bounds: dict[str, float], expected: str | None) -> None:
    candidates = table(("a", 9, "four"), ("a", 3, "x" * 9), ("a", 2, "x" * 8), ("a", 1, "xx"))
    assert rejected(rejecting({"kind": "length_ratio", **bounds}), candidates) == expected


def test_sources_and_finish_reasons_admit_by_name() -> None:
    candidates = table(("a", 9, "best"), ("a", 3, "of a"), ("b", 2, "of b"), ("c", 1, "cut")).with_columns(
        finish_reason=pl.when(pl.col("response") == "cut").then(None).otherwise("finish_reason")
    )
    assert rejected(rejecting({"kind": "from_source", "sources": ["b", "c"]}), candidates) == "of b"
    assert rejected(rejecting({"kind": "not_from_source", "sources": ["a"]}), candidates) == "of b"
    assert rejected(rejecting({"kind": "finish_reason", "reasons": ["unknown"]}), candidates) == "cut"
    assert rejected(rejecting({"kind": "score_at_most", "value": 2}), candidates) == "of b"
    assert rejected(rejecting(by="first"), candidates) == "of a"


def test_dno_pairs_every_positive_with_every_clear_negative() -> None:
    candidates = table(("gpt-4-turbo", 6, "t6"), ("policy", 5, "s5"), ("policy", 4.5, "s45"), ("policy", 4, "s4"))
    pairs = DNO(teacher=("gpt-4-turbo",)).pair(candidates).pairs
    assert pairs.select("pair_index", "response_chosen", "response_rejected").rows() == [
        (0, "t6", "s4"),
        (1, "s5", "s4"),
    ]
    without = DNO(teacher=()).pair(candidates).pairs
    assert without.select("response_chosen", "response_rejected").rows() == [
        *(("t6", "s4"), ("t6", "s45"), ("t6", "s5")),
        ("s5", "s4"),
    ]


LOOP = "I am " * 20


@pytest.mark.parametrize("score", [6, 4, 0.5])
def test_an_answer_that_repeats_itself_is_a_negative_whatever_its_score(score: float) -> None:
    candidates = table(("gpt-4-turbo", 6, "t6"), ("policy", 5, "s5"), ("policy", score, LOOP))
    pairs = DNO(teacher=("gpt-4-turbo",), repetition=Repetition(n=2, share=0.5)).pair(candidates).pairs
    assert pairs.select("response_chosen", "response_rejected", "score_rejected").rows() == [
        ("t6", LOOP, 0.0),
        ("s5", LOOP, 0.0),
    ]
    without = DNO(teacher=("gpt-4-turbo",)).pair(candidates).pairs
    assert (LOOP in without["response_chosen"].to_list()) == (score == 6)


@pytest.mark.parametrize(("share", "chosen"), [(0.5, []), (0.51, ["a b a b"])])
def test_an_answer_with_exactly_the_share_is_a_negative(share: float, chosen: list[str]) -> None:
    candidates = table(("policy", 6, "a b a b"), ("policy", 3, "s3"))
    pairs = DNO(teacher=(), repetition=Repetition(n=1, share=share)).pair(candidates).pairs
    assert pairs["response_chosen"].to_list() == chosen


def test_an_unscored_answer_stays_unscored_though_it_repeats_itself() -> None:
    candidates = table(("policy", 5, "s5"), ("policy", 1, "s1"), ("policy", 0, LOOP)).with_columns(
        score=pl.when(pl.col("index") < 2).then("score")
    )
    paired = DNO(teacher=(), repetition=Repetition(n=2, share=0.5)).pair(candidates)
    assert paired.pairs["response_rejected"].to_list() == ["s1"]
    assert paired.ineligible["reason"].to_list() == ["unscored"]


@pytest.mark.parametrize(
    ("text", "n", "unit", "share"),
    [
        ("", 1, "words", 0),
        ("one", 2, "words", 0),
        ("to be or not to be", 1, "words", 2 / 6),
        ("to be or not to be", 2, "words", 1 / 5),
        ("to be or not to be", 3, "words", 0),
        (" a\n\na\ta a ", 1, "words", 3 / 4),
        ("好好好学", 1, "words", 0),
        ("好好好学", 2, "characters", 1 / 3),
    ],
)
def test_the_repeated_share_counts_the_n_grams_that_were_there_before(
    text: str, n: int, unit: Literal["words", "characters"], share: float
) -> None:
    assert repeated_share(text, n, unit) == pytest.approx(share)


@pytest.mark.parametrize(
    ("matched", "expected"),
    [(False, [("e", "a"), ("e", "b"), ("d", "a"), ("d", "b")]), (True, [("e", "a"), ("d", "b")])],
)
def test_the_top_two_meet_the_bottom_two(matched: bool, expected: list[tuple[str, str]]) -> None:
    candidates = table(*(("a", score, text) for score, text in enumerate("abcde")))
    pairs = TopKVsBottomK(k=2, matched=matched).pair(candidates).pairs
    assert pairs.select("response_chosen", "response_rejected").rows() == expected
    assert pairs["pair_index"].to_list() == list(range(len(expected)))


def test_each_pick_tells_its_own_ties() -> None:
    candidates = table(("a", 3, "x"), ("b", 3, "y"), ("c", 2, "z"), ("d", 1, "w"))
    pairs = TopKVsBottomK(k=3).pair(candidates).pairs
    told = pairs.select("response_chosen", "n_tied_chosen", "decided_chosen", "response_rejected").rows()
    assert told == [
        *(("x", 2, "order", "w"), ("x", 2, "order", "z")),
        *(("y", 2, "order", "w"), ("y", 2, "order", "z")),
        ("z", 1, "highest", "w"),
    ]


def test_a_soft_label_is_the_sigmoid_of_the_margin() -> None:
    candidates = table(("a", 2, "x"), ("a", 0, "y"))
    assert BestVsWorst(label=MarginLabel()).pair(candidates).pairs["label_chosen"][0] == pytest.approx(0.880797077978)
    even = BestVsWorst(label=MarginLabel(temperature=1e9)).pair(candidates).pairs["label_chosen"][0]
    assert even == pytest.approx(0.5, abs=1e-8)
