"""The published rules on tables small enough to check by eye."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import polars as pl
import pytest

from prefdata.pairing import (
    BelowChosen,
    BestVsWorst,
    CustomRule,
    Highest,
    Longest,
    Lowest,
    Paired,
    PairRule,
    ScoreAtLeast,
    Selection,
    Shortest,
    SnorkelPairRM,
    UltraFeedbackBinarized,
    WPOHybridV1,
    WPOHybridV2,
)
from prefdata.records import LengthUnit

EVERY_RULE = [WPOHybridV2(), WPOHybridV1(), BestVsWorst(), SnorkelPairRM(), UltraFeedbackBinarized()]


def answers(text: str, prompt_id: str = "p") -> pl.DataFrame:
    """A table from lines of `source index | score | response`; a score of `-` is no score."""
    rows = []
    for line in text.strip().splitlines():
        name, score, response = (cell.strip() for cell in line.split("|"))
        source, index = name.split()
        rows.append((prompt_id, source, int(index), response, None if score == "-" else float(score)))
    return pl.DataFrame(rows, schema=["prompt_id", "source", "index", "response", "score"], orient="row")


def only_pair(paired: Paired) -> dict[str, Any]:
    assert paired.drops.is_empty()
    [pair] = paired.pairs.rows(named=True)
    return pair


def only_drop(paired: Paired) -> str:
    assert paired.pairs.is_empty()
    [drop] = paired.drops.rows(named=True)
    return str(drop["reason"])


def texts(paired: Paired) -> tuple[str, str]:
    pair = only_pair(paired)
    return pair["response_chosen"], pair["response_rejected"]


# --------------------------------------------------------------------------------------------- WPO hybrid, version 2


def test_wpo_v2_rejects_the_lowest_score() -> None:
    table = answers("""
        policy 0  | 3 | middling
        policy 1  | 1 | poor
        teacher 0 | 6 | excellent
    """)
    pair = only_pair(WPOHybridV2().pair(table))
    assert pair == {
        "prompt_id": "p",
        "pair_index": 0,
        "n_candidates": 3,
        "n_eligible": 3,
        "n_tied_chosen": 1,
        "decided_chosen": "highest",
        "source_chosen": "teacher",
        "index_chosen": 0,
        "model_chosen": None,
        "score_chosen": 6.0,
        "length_chosen": 9,
        "response_chosen": "excellent",
        "n_tied_rejected": 1,
        "decided_rejected": "lowest",
        "source_rejected": "policy",
        "index_rejected": 1,
        "model_rejected": None,
        "score_rejected": 1.0,
        "length_rejected": 4,
        "response_rejected": "poor",
        "score_margin": 5.0,
    }


def test_wpo_v2_chooses_the_shortest_of_several_best_answers() -> None:
    table = answers("""
        policy 0  | 6 | good, and then some more words
        policy 1  | 6 | good and brief
        policy 2  | 1 | bad
        teacher 0 | 6 | good, with some words
    """)
    pair = only_pair(WPOHybridV2().pair(table))
    assert (pair["response_chosen"], pair["response_rejected"]) == ("good and brief", "bad")
    assert (pair["n_tied_chosen"], pair["decided_chosen"]) == (3, "shortest")


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [("four", "bad"), ("twelve chars", "bad, longer"), ("an answer of thirty characters", "bad, and the longest")],
)
def test_wpo_v2_rejects_the_worst_answer_of_nearest_length(chosen: str, rejected: str) -> None:
    table = answers(f"""
        policy 0  | 6 | {chosen}
        policy 1  | 1 | bad
        policy 2  | 1 | bad, longer
        policy 3  | 1 | bad, and the longest
        policy 4  | 2 | {"x" * len(chosen)}
    """)
    pair = only_pair(WPOHybridV2().pair(table))
    assert (pair["response_chosen"], pair["response_rejected"]) == (chosen, rejected)
    assert (pair["n_tied_rejected"], pair["decided_rejected"]) == (3, "nearest_length")


def test_wpo_v2_leaves_second_ties_to_source_and_index() -> None:
    table = answers("""
        teacher 0 | 6 | b2
        policy 10 | 6 | b1
        policy 2  | 6 | b0
        policy 4  | 1 | w5w
        policy 3  | 1 | w
    """)
    pair = only_pair(WPOHybridV2().pair(table))
    assert (pair["response_chosen"], pair["decided_chosen"]) == ("b0", "order")
    assert (pair["response_rejected"], pair["decided_rejected"]) == ("w", "order")


def test_the_unit_of_length_decides_who_is_shortest() -> None:
    table = answers("""
        policy 0 | 6 | 漢 字
        policy 1 | 6 | incomprehensible
        policy 2 | 6 | a b c
        policy 3 | 1 | bad
    """)
    shortest: dict[LengthUnit, tuple[str, int]] = {
        "characters": ("漢 字", 3),
        "words": ("incomprehensible", 1),
        "bytes": ("a b c", 5),
    }
    for unit, (text, length) in shortest.items():
        pair = only_pair(WPOHybridV2(length=unit).pair(table))
        assert (pair["response_chosen"], pair["length_chosen"]) == (text, length)


# --------------------------------------------------------------------------------------------- WPO hybrid, version 1


def test_wpo_v1_takes_no_answer_below_five() -> None:
    table = answers("""
        policy 0 | 4.5 | decent
        policy 1 | 1   | bad
    """)
    assert only_drop(WPOHybridV1().pair(table)) == "no_chosen"
    assert texts(WPOHybridV1(threshold=4.5).pair(table)) == ("decent", "bad")


def test_wpo_v1_rejects_only_what_is_a_point_worse() -> None:
    table = answers("""
        policy 0 | 6   | best
        policy 1 | 5.5 | nearly
        policy 2 | 5   | a point worse
    """)
    for seed in range(20):
        assert texts(WPOHybridV1(seed=seed).pair(table)) == ("best", "a point worse")
    assert only_drop(WPOHybridV1(margin=2).pair(table)) == "no_rejected"
    assert {texts(WPOHybridV1(margin=0.5, seed=seed).pair(table))[1] for seed in range(20)} == {
        "nearly",
        "a point worse",
    }


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize("prompt_id", ["p", "q", "ü"])
def test_the_random_answer_is_drawn_by_the_hash_of_seed_and_prompt_id(prompt_id: str, seed: int) -> None:
    table = answers(
        """
        teacher 0 | 6 | best
        teacher 1 | 5 | worse 3
        policy 7  | 1 | worse 2
        policy 3  | 2 | worse 1
        policy 1  | 4 | worse 0
        """,
        prompt_id,
    )
    digest = hashlib.sha256(f'["pair",{seed},"{prompt_id}"]'.encode()).digest()
    drawn = (int.from_bytes(digest[:8], "big") >> 11) % 4
    for rule in (WPOHybridV1(seed=seed), UltraFeedbackBinarized(seed=seed)):
        pair = only_pair(rule.pair(table))
        assert pair["response_rejected"] == f"worse {drawn}"
        assert (pair["n_tied_rejected"], pair["decided_rejected"]) == (1, "random")


def test_random_answers_are_spread_evenly_over_prompts() -> None:
    rows = [
        (f"prompt {number}", "policy", index, "abcd"[index], score)
        for number in range(3000)
        for index, score in enumerate((6.0, 3.0, 2.0, 1.0))
    ]
    table = pl.DataFrame(rows, schema=["prompt_id", "source", "index", "response", "score"], orient="row")
    first = WPOHybridV1().pair(table).pairs["response_rejected"]
    second = WPOHybridV1(seed=1).pair(table).pairs["response_rejected"]
    for drawn in (first, second):
        counts = Counter(drawn)
        assert set(counts) == {"b", "c", "d"}
        # 1000 expected, standard deviation 26
        assert all(900 < count < 1100 for count in counts.values())
    assert 900 < (first == second).sum() < 1100


# -------------------------------------------------------------------------------------------- best against worst


@pytest.mark.parametrize("rule", [BestVsWorst(), SnorkelPairRM()])
def test_best_against_worst_takes_the_first_of_tied_answers(rule: PairRule) -> None:
    table = answers("""
        policy 2  | -1.25 | worst, second
        policy 1  | -1.25 | worst, first, and much longer than the others
        teacher 0 | 0.5   | b
        policy 4  | 0.5   | best, first
        policy 0  | 0.25  | in between
    """)
    pair = only_pair(rule.pair(table))
    assert pair["response_chosen"] == "best, first"
    assert pair["response_rejected"] == "worst, first, and much longer than the others"
    assert (pair["n_tied_chosen"], pair["n_tied_rejected"]) == (2, 2)
    assert (pair["decided_chosen"], pair["decided_rejected"]) == ("order", "order")
    assert pair["score_margin"] == 1.75


# ------------------------------------------------------------------------------------------ UltraFeedback, binarized


def test_ultrafeedback_rejects_any_other_answer_with_another_text_and_a_lower_score() -> None:
    table = answers("""
        alpaca 0  | 9 | best
        bard 0    | 9 | as good
        falcon 0  | 7 | fair
        gpt 0     | 7 | best
        llama 0   | 2 | poor
    """)
    pairs = {texts(UltraFeedbackBinarized(seed=seed).pair(table)) for seed in range(30)}
    assert pairs == {("best", "fair"), ("best", "poor")}


# -------------------------------------------------------------------------------------------------- custom rules


def test_a_custom_rule_is_read_as_it_is_written() -> None:
    rule = CustomRule(
        chosen=Selection(among=(ScoreAtLeast(value=4),), by=(Longest(), Highest())),
        rejected=Selection(among=(BelowChosen(margin=2), ScoreAtLeast(value=1)), by=(Shortest(), Lowest())),
    )
    table = answers("""
        policy 0 | 3 | the longest of all, below four
        policy 1 | 4 | twelve chars
        policy 2 | 5 | twelve signs
        policy 3 | 6 | six
        policy 4 | 0 | no
        policy 5 | 1 | yes
        policy 6 | 2 | yea
        policy 7 | 4 | a
    """)
    pair = only_pair(rule.pair(table))
    assert (pair["response_chosen"], pair["n_tied_chosen"], pair["decided_chosen"]) == ("twelve signs", 2, "highest")
    assert (pair["response_rejected"], pair["n_tied_rejected"], pair["decided_rejected"]) == ("yes", 2, "lowest")


def test_a_custom_rule_whose_chosen_answer_is_the_worst_gives_no_pair() -> None:
    rule = CustomRule(chosen=Selection(by=(Lowest(),)), rejected=Selection(by=(Highest(),)))
    table = answers("""
        policy 0 | 1 | worst
        policy 1 | 2 | best
    """)
    assert only_drop(rule.pair(table)) == "no_contrast"


# ------------------------------------------------------------------------------------------ prompts without a pair


@pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda rule: rule.kind)
def test_prompts_without_a_pair_are_dropped_with_their_reason(rule: PairRule) -> None:
    reasons = {
        "too_few_candidates": "a 0 | 6 | alone",
        "no_contrast": "a 0 | 5 | one\na 1 | 5 | another",
        "identical_texts": "a 0 | 6 | same\na 1 | 1 | same\na 2 | 6 | same",
    }
    for reason, text in reasons.items():
        assert only_drop(rule.pair(answers(text))) == reason


@pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda rule: rule.kind)
def test_prompts_without_any_answer_are_dropped_too(rule: PairRule) -> None:
    paired = rule.pair(answers("a 0 | 6 | yes\na 1 | 1 | no", "b"), (name for name in ("c", "b", "a", "c")))
    assert paired.pairs["prompt_id"].to_list() == ["b"]
    assert paired.drops.select("prompt_id", "reason").rows() == [
        ("a", "too_few_candidates"),
        ("c", "too_few_candidates"),
    ]


def test_an_answer_with_the_chosen_text_is_never_rejected() -> None:
    table = answers("""
        policy 0 | 6 | same
        policy 1 | 1 | same
        policy 2 | 3 | other
    """)
    for rule in EVERY_RULE:
        assert texts(rule.pair(table)) == ("same", "other")


# ---------------------------------------------------------------------------------------------------- eligibility


@pytest.mark.parametrize("blank", ["", " ", "\n", "\u3000", "\x1c", "\u2003\x85"])
def test_blank_answers_are_picked_only_when_admitted(blank: str) -> None:
    table = pl.DataFrame(
        {
            "prompt_id": ["p"] * 3,
            "source": ["a", "b", "c"],
            "index": [0, 0, 0],
            "response": ["best", blank, "bad"],
            "score": [6.0, 0.0, 1.0],
        }
    )
    paired = WPOHybridV2().pair(table)
    assert texts(paired) == ("best", "bad")
    assert paired.ineligible.select("source", "reason").rows() == [("b", "blank")]
    admitted = WPOHybridV2(admit=("blank",)).pair(table)
    assert texts(admitted) == ("best", blank)
    assert admitted.ineligible.is_empty()


def test_a_zero_width_space_is_not_blank() -> None:
    table = answers("a 0 | 6 | best\nb 0 | 1 | \u200b")
    assert texts(WPOHybridV2().pair(table)) == ("best", "\u200b")


def test_answers_cut_off_at_the_token_limit_are_picked_only_when_admitted() -> None:
    table = answers("a 0 | 6 | cut of\na 1 | 5 | whole\na 2 | 1 | bad").with_columns(
        finish_reason=pl.Series(["length", "stop", None])
    )
    assert texts(WPOHybridV2().pair(table)) == ("whole", "bad")
    assert texts(WPOHybridV2(admit=("cut_off",)).pair(table)) == ("cut of", "bad")


def test_every_ineligible_answer_is_listed_with_its_reason() -> None:
    table = pl.DataFrame(
        {
            "prompt_id": ["p"] * 6,
            "source": ["a", "b", "c", "d", "e", "f"],
            "index": [0, 1, 2, 3, 4, 5],
            "response": [None, " ", "x", "y", "z", "w"],
            "score": [1.0, 1.0, None, None, 1.0, 2.0],
            "finish_reason": ["stop", "length", "length", None, "length", "stop"],
            "unscored": [None, None, "unparsed", None, None, None],
        }
    )
    paired = WPOHybridV2().pair(table)
    assert paired.ineligible.drop("prompt_id", "stage").rows() == [
        ("missing_response", "", "a", 0),
        ("blank", "", "b", 1),
        ("unscored", "unparsed", "c", 2),
        ("unscored", "", "d", 3),
        ("cut_off", "", "e", 4),
    ]
    assert paired.drops.drop("prompt_id", "stage").rows() == [
        ("too_few_candidates", "1 of 6 candidates eligible, 1 missing_response, 1 blank, 2 unscored, 1 cut_off")
    ]


def test_models_of_both_answers_come_along() -> None:
    table = answers("a 0 | 6 | best\nb 0 | 1 | bad").with_columns(model=pl.Series(["gpt-4-turbo", None]))
    pair = only_pair(BestVsWorst().pair(table))
    assert (pair["model_chosen"], pair["model_rejected"]) == ("gpt-4-turbo", None)
