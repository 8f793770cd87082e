"""Every rule gives, row by row and cell by cell, what the plain-Python oracle gives."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import oracle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import DEFAULTS, OPTIONAL, PROMPT_IDS, RULES, Row, frame, many_prompts, rows

from prefdata.pairing import CustomRule, PairRule

LENGTHS = ("characters", "words", "bytes")
ADMISSIONS = ((), ("blank",), ("cut_off",), ("blank", "cut_off"))
CHOSEN_KEYS = ("highest", "lowest", "shortest", "longest", "first")
REJECTED_KEYS = (*CHOSEN_KEYS, "nearest_length")

EVERY_RULE_REACHES = {
    *("too_few_candidates", "no_contrast", "identical_texts"),
    *("tied chosen", "chosen order", "missing_response", "unscored"),
}
RULE_REACHES = {
    "wpo_hybrid_v2": {"chosen shortest", "rejected lowest", "rejected nearest_length", "rejected order"},
    "wpo_hybrid_v1": {"chosen highest", "rejected random", "no_chosen", "no_rejected"},
    "best_vs_worst": {"chosen highest", "rejected lowest", "rejected order", "tied rejected"},
    "snorkel_pairrm": {"chosen highest", "rejected lowest", "rejected order", "tied rejected"},
    "ultrafeedback_binarized": {"chosen highest", "rejected random"},
    "sppo": {"chosen highest", "rejected lowest", "rejected order", "tied rejected"},
    "gpo": {"chosen highest", "rejected lowest", "rejected order", "tied rejected"},
    "top_k_vs_bottom_k": {"chosen highest", "rejected lowest", "rejected order", "several pairs"},
    "dno": {"chosen highest", "rejected lowest", "no_chosen", "no_rejected", "several pairs"},
    "custom": {"chosen longest", "chosen highest", "rejected nearest_length", "no_chosen", "no_rejected"},
}


def assert_equals_oracle(
    rule: PairRule, table: list[Row], prompt_ids: Iterable[str] | None = None, without: tuple[str, ...] = ()
) -> set[str]:
    """Compares all three tables and returns the outcomes that occurred."""
    seen = [{name: value for name, value in row.items() if name not in without} for row in table]
    ids = None if prompt_ids is None else list(prompt_ids)
    expected = oracle.expected(rule.dump(), seen, ids)
    paired = rule.pair(frame(table, without), ids)
    assert len(paired.pairs) == len(expected.pairs)
    for found, wanted in zip(paired.pairs.rows(named=True), expected.pairs, strict=True):
        assert list(found) == list(wanted)
        numbers = {name: found.pop(name) for name in rule.extra_columns()}
        assert numbers == pytest.approx({name: wanted[name] for name in numbers}, rel=1e-11, abs=1e-11)
        assert found == {name: value for name, value in wanted.items() if name not in numbers}
    assert paired.drops.rows(named=True) == expected.drops
    ineligible = paired.ineligible.rows(named=True)
    assert [row["prompt_id"] for row in ineligible] == [row["prompt_id"] for row in expected.ineligible]
    assert sorted(map(cells, ineligible)) == sorted(map(cells, expected.ineligible))
    outcomes = {row["reason"] for row in (*expected.drops, *expected.ineligible)}
    for pair in expected.pairs:
        for side in ("chosen", "rejected"):
            outcomes.add(f"{side} {pair[f'decided_{side}']}")
            if pair[f"n_tied_{side}"] > 1:
                outcomes.add(f"tied {side}")
        if pair["pair_index"]:
            outcomes.add("several pairs")
    return outcomes


def cells(row: Row) -> list[str]:
    return [f"{name}={value!r}" for name, value in row.items()]


@pytest.mark.parametrize("kind", RULES)
def test_every_rule_gives_the_rows_of_the_oracle(kind: str) -> None:
    @settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        rule=RULES[kind],
        table=rows(),
        extra=st.one_of(st.none(), st.lists(st.sampled_from((*PROMPT_IDS, "no answers")), max_size=3)),
        without=st.sampled_from(((), (), OPTIONAL, *((name,) for name in OPTIONAL))),
    )
    def check(rule: PairRule, table: list[Row], extra: list[str] | None, without: tuple[str, ...]) -> None:
        ids = None if extra is None else [row["prompt_id"] for row in table] + extra
        assert_equals_oracle(rule, table, ids, without)

    check()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("admit", ADMISSIONS)
@pytest.mark.parametrize("kind", RULES)
def test_every_rule_in_every_unit_and_admission_gives_the_rows_of_the_oracle(
    kind: str, admit: tuple[str, ...], length: str
) -> None:
    default = DEFAULTS[kind]()
    rule = type(default).model_validate(default.dump() | {"length": length, "admit": admit})
    reached = assert_equals_oracle(rule, many_prompts(f"{kind} {admit} {length}", 500))
    assert EVERY_RULE_REACHES | RULE_REACHES[kind] <= reached
    assert {"blank", "cut_off"} - set(admit) == {"blank", "cut_off"} & reached


def test_a_hundred_custom_rules_give_the_rows_of_the_oracle() -> None:
    reached: set[str] = set()
    for number in range(100):
        rule = custom_rule(number, later_random=False)
        reached |= assert_equals_oracle(rule, many_prompts(f"custom {number}", 150))
    assert {f"chosen {kind}" for kind in (*CHOSEN_KEYS, "random", "order")} <= reached
    assert {f"rejected {kind}" for kind in (*REJECTED_KEYS, "random", "order")} <= reached
    assert EVERY_RULE_REACHES | {"no_chosen", "no_rejected", "tied rejected"} <= reached


def test_a_random_key_after_another_one_draws_among_what_is_tied() -> None:
    for number in range(50):
        assert_equals_oracle(custom_rule(number, later_random=True), many_prompts(f"later {number}", 150))


def custom_rule(number: int, later_random: bool) -> CustomRule:
    dice = random.Random(number)

    def key(kinds: tuple[str, ...], with_random: bool) -> dict[str, Any]:
        if with_random and dice.random() < 0.25:
            return {"kind": "random", "seed": dice.randint(-5, 5)}
        return {"kind": dice.choice(kinds)}

    def selection(kinds: tuple[str, ...], filters: list[dict[str, Any]]) -> dict[str, Any]:
        first = key(kinds, True)
        later = [key(kinds, later_random) for _ in range(dice.randint(0, 2))]
        return {"among": dice.sample(filters, dice.randint(0, len(filters))), "by": [first, *later]}

    plain = [
        {"kind": "score_at_least", "value": dice.choice((2, 4.5, 5))},
        {"kind": "score_at_most", "value": dice.choice((3, 4.5, 6))},
        {"kind": "from_source", "sources": ["policy", "teacher", "a", "é"]},
        {"kind": "not_from_source", "sources": ["Zephyr"]},
        {"kind": "finish_reason", "reasons": dice.choice((["stop"], ["stop", "unknown"]))},
        {"kind": "quantile", "at_least": dice.choice((0.3, 0.5)), "at_most": dice.choice((None, 0.8))},
    ]
    relative = [
        {"kind": "below_chosen", "margin": dice.choice((0, 0.5, 1, 2))},
        {"kind": "below_chosen_by_source", "sources": ["teacher", "a"], "margin": 2, "margin_of_others": 1},
        {"kind": "length_ratio", "at_most": dice.choice((1, 1.5, 3))},
        {"kind": "length_ratio", "at_least": 0.5, "at_most": None},
        {"kind": "not_identical", "how": dice.choice(("exact", "white_space"))},
    ]
    return CustomRule.model_validate(
        {
            "length": dice.choice(LENGTHS),
            "admit": dice.choice(ADMISSIONS),
            "chosen": selection(CHOSEN_KEYS, dice.sample(plain, 1)),
            "rejected": selection(REJECTED_KEYS, dice.sample([*plain, *relative], 2)),
            "n_chosen": dice.choice((1, 1, 1, 2, "all")),
            "n_rejected": dice.choice((1, 1, 1, 2, "all")),
        }
    )
