"""Every rule, key and filter has words, and every parameter is among them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from strategies import any_rule

from prefdata.pairing import BestVsWorst, CustomRule, PairRule, PythonRule, WPOHybridV1, filters
from prefdata.pairing.algebra import Highest, Key, Selection
from prefdata.pairing.words import rule_words


def leaves(kind):
    return [found for child in kind.__subclasses__() for found in (child, *leaves(child))]


OPTIONS = {
    "score_at_least": {"value": 2.5},
    "score_at_most": {"value": 2.5},
    "below_chosen": {"margin": 2.5},
    "below_chosen_by_source": {"sources": ("x25",), "margin": 2.5, "margin_of_others": 2.5},
    "from_source": {"sources": ("2.5",)},
    "not_from_source": {"sources": ("2.5",)},
    "finish_reason": {"reasons": ("2.5",)},
    "length_ratio": {"at_most": 2.5},
    "length_difference": {"at_most": 25},
    "not_identical": {"how": "exact"},
    "quantile": {"at_least": 0.25},
}


@pytest.mark.parametrize("kind", [kind for kind in leaves(filters.Filter) if kind.__module__.startswith("prefdata")])
def test_every_filter_has_words_with_its_values(kind):
    name = kind.model_fields["kind"].default
    plain = CustomRule(chosen=Selection(by=(Highest(),)), rejected=Selection(by=(Highest(),)))
    selection = Selection(among=(kind(**OPTIONS[name]),), by=(Highest(),))
    words = rule_words(plain.replace(rejected=selection))
    assert words != rule_words(plain)
    assert "2.5" in words or "25" in words or "exact" in words


@pytest.mark.parametrize("kind", [kind for kind in leaves(Key) if kind.__module__.startswith("prefdata")])
def test_every_key_has_words(kind):
    rule = CustomRule(chosen=Selection(by=(Highest(),)), rejected=Selection(by=(kind(),)))
    assert "; rejected " in rule_words(rule)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(rule=any_rule)
def test_every_parameter_is_in_the_words_of_any_rule(rule: PairRule):
    words = rule_words(rule)
    assert words.startswith(f"{rule.dump()['kind']}: chosen ")
    for name in type(rule).model_fields:
        if name not in ("kind", "chosen", "rejected") and getattr(rule, name) is not None:
            assert f"{name} " in words


def test_words_say_what_a_rule_does():
    assert rule_words(WPOHybridV1(margin=2.5)) == (
        "wpo_hybrid_v1: chosen highest score, score at least 5; rejected at random (seed 0), at least 2.5 below the "
        "chosen one (length characters, admit none, identical white_space, threshold 5, margin 2.5, seed 0)"
    )
    words = rule_words(BestVsWorst(min_margin=2.5, max_length_difference=100))
    assert "rejected lowest score, at least 2.5 below the chosen one, length within 100 of the chosen one's" in words
    assert "the function own:rule picks" in rule_words(PythonRule(path="own:rule"))
