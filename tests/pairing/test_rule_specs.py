"""Rules are data: JSON round trip, no unknown key, a fingerprint that changes with every option."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from pydantic import TypeAdapter, ValidationError
from strategies import DEFAULTS, any_rule

from prefdata.pairing import (
    AnyRule,
    CustomRule,
    Highest,
    PairRule,
    Selection,
    WPOHybridV2,
)
from prefdata.spec import Spec

ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyRule)

OTHER_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "wpo_hybrid_v2": [],
    "wpo_hybrid_v1": [{"threshold": 4.0}, {"margin": 2.0}, {"margin": 0.0}, {"seed": 1}, {"seed": -1}],
    "best_vs_worst": [],
    "snorkel_pairrm": [],
    "ultrafeedback_binarized": [{"seed": 1}],
    "sppo": [{"probabilities": "pairwise"}, {"self_term": False}],
    "gpo": [{"preferences": "pairwise"}, {"doubled": True}],
    "top_k_vs_bottom_k": [{"k": 3}, {"matched": True}],
    "by_comparisons": [
        *({"ranking": ranking} for ranking in ("mean_score", "borda", "bradley_terry")),
        {"chosen": {"by": [{"kind": "highest"}, {"kind": "shortest"}]}},
        {"rejected": {"by": [{"kind": "random"}]}},
    ],
    "dno": [
        *({"teacher": ["a"]}, {"teacher": []}, {"threshold": 4}, {"margin_teacher": 3}, {"margin_student": 0}),
        {"repetition": {"n": 3, "share": 0.5}},
        {"repetition": {"n": 4, "share": 0.5}},
        {"repetition": {"n": 3, "share": 0.25}},
        {"repetition": {"n": 3, "share": 0.5, "unit": "characters"}},
        {"repetition": {"n": 3, "share": 0.5, "score": -1}},
    ],
    "custom": [
        {"n_chosen": 2},
        {"n_rejected": 2},
        {"n_rejected": "all"},
        {"rejected": {"among": [{"kind": "quantile", "at_most": 0.5}], "by": [{"kind": "random"}]}},
        {"chosen": {"by": [{"kind": "highest"}]}},
        {"chosen": {"by": [{"kind": "highest"}, {"kind": "shortest"}]}},
        {"chosen": {"by": [{"kind": "shortest"}, {"kind": "highest"}]}},
        {"chosen": {"among": [{"kind": "score_at_least", "value": 1.5}], "by": [{"kind": "highest"}]}},
        {"rejected": {"by": [{"kind": "random"}]}},
        {"rejected": {"by": [{"kind": "random", "seed": 1}]}},
        {"rejected": {"among": [{"kind": "below_chosen", "margin": 1.0}], "by": [{"kind": "random"}]}},
    ],
}
OF_EVERY_RULE: list[dict[str, Any]] = [
    {"length": "words"},
    {"length": "bytes"},
    {"admit": ["blank"]},
    {"admit": ["cut_off"]},
    {"admit": ["blank", "cut_off"]},
    {"label": {"kind": "margin"}},
    {"label": {"kind": "margin", "temperature": 2}},
    {"label": {"kind": "comparison"}},
    {"identical": "exact"},
    {"min_margin": 0.75},
    {"max_length_difference": 11},
]


@settings(max_examples=200, derandomize=True, deadline=None)
@given(rule=any_rule)
def test_a_rule_comes_back_equal_from_json(rule: PairRule) -> None:
    text = json.dumps(rule.dump())
    back = ADAPTER.validate_python(json.loads(text))
    assert type(back) is type(rule)
    assert back == rule
    assert back.fingerprint() == rule.fingerprint()
    assert json.dumps(back.dump()) == text
    assert ADAPTER.validate_json(text) == rule


@pytest.mark.parametrize("kind", DEFAULTS)
def test_the_kind_names_the_rule_and_is_enough_where_all_options_have_defaults(kind: str) -> None:
    default = DEFAULTS[kind]()
    assert default.dump()["kind"] == kind
    required = {name: default.dump()[name] for name, info in type(default).model_fields.items() if info.is_required()}
    assert set(required) == {"custom": {"chosen", "rejected"}, "dno": {"teacher"}, "by_comparisons": {"ranking"}}.get(
        kind, set()
    )
    assert ADAPTER.validate_python({"kind": kind, **required}) == default


@pytest.mark.parametrize("kind", DEFAULTS)
def test_every_option_changes_the_fingerprint(kind: str) -> None:
    default = DEFAULTS[kind]().dump()
    variants = [default, *({**default, **option} for option in (*OF_EVERY_RULE, *OTHER_OPTIONS[kind]))]
    fingerprints = {ADAPTER.validate_python(variant).fingerprint() for variant in variants}
    assert len(fingerprints) == len(variants)
    changed = {name for option in (*OF_EVERY_RULE, *OTHER_OPTIONS[kind]) for name in option}
    assert changed == set(type(DEFAULTS[kind]()).model_fields) - {"kind"}


def test_no_two_rules_share_a_fingerprint() -> None:
    assert len({make().fingerprint() for make in DEFAULTS.values()}) == len(DEFAULTS)


def test_the_fingerprint_of_wpo_hybrid_v2_never_changes() -> None:
    text = '{"admit":[],"kind":"wpo_hybrid_v2","length":"characters"}'
    golden = "75a31be9a75a60acee60faa129e7b4d9c44925fe68c1b71f7bf1b2e55323886e"
    assert hashlib.sha256(text.encode()).hexdigest() == golden
    assert WPOHybridV2().fingerprint() == golden


@pytest.mark.parametrize("number", ["1", 1, 1.0])
def test_the_spelling_of_a_number_does_not_change_the_fingerprint(number: float | str) -> None:
    rule = ADAPTER.validate_python({"kind": "wpo_hybrid_v1", "margin": number})
    assert rule.fingerprint() == DEFAULTS["wpo_hybrid_v1"]().fingerprint()


@pytest.mark.parametrize("kind", DEFAULTS)
def test_an_unknown_key_is_refused_and_named(kind: str) -> None:
    with pytest.raises(ValidationError, match="lenght") as caught:
        ADAPTER.validate_python(DEFAULTS[kind]().dump() | {"lenght": "words"})
    assert [error["type"] for error in caught.value.errors()] == ["extra_forbidden"]


@pytest.mark.parametrize(
    "selection",
    [
        {"by": [{"kind": "highest"}], "amongst": []},
        {"by": [{"kind": "highest", "seed": 1}]},
        {"by": [{"kind": "random", "sead": 1}]},
        {"by": [{"kind": "hihgest"}]},
        {"by": [{}]},
        {"by": []},
        {},
        {"by": [{"kind": "score_at_least", "value": 1}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "highest"}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "score_at_least"}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "score_at_least", "value": float("nan")}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "score_at_least", "value": float("inf")}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "below_chosen", "margin": -1}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "below_chosen"}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "quantile"}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "quantile", "at_least": 0.6, "at_most": 0.5}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "quantile", "at_least": 1.5}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "length_ratio"}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "length_ratio", "at_least": 2, "at_most": 1}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "from_source", "sources": []}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "not_identical", "how": "case"}]},
    ],
)
def test_a_selection_that_means_nothing_is_refused(selection: dict[str, Any]) -> None:
    good = {"kind": "custom", "chosen": {"by": [{"kind": "highest"}]}, "rejected": {"by": [{"kind": "lowest"}]}}
    assert isinstance(ADAPTER.validate_python(good), CustomRule)
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(good | {"rejected": selection})


@pytest.mark.parametrize(
    "selection",
    [
        {"by": [{"kind": "nearest_length"}]},
        {"by": [{"kind": "highest"}, {"kind": "nearest_length"}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "below_chosen", "margin": 1}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "length_ratio", "at_most": 1}]},
        {"by": [{"kind": "highest"}], "among": [{"kind": "not_identical"}]},
    ],
)
def test_what_compares_with_the_chosen_answer_is_refused_in_the_chosen_selection(selection: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python({"kind": "custom", "chosen": selection, "rejected": {"by": [{"kind": "lowest"}]}})


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "wpo_hybrid_v3"},
        {},
        {"kind": "wpo_hybrid_v2", "length": "tokens"},
        {"kind": "wpo_hybrid_v2", "admit": ["unscored"]},
        {"kind": "wpo_hybrid_v2", "admit": "blank"},
        {"kind": "wpo_hybrid_v1", "margin": -0.5},
        {"kind": "wpo_hybrid_v1", "threshold": float("nan")},
        {"kind": "wpo_hybrid_v1", "seed": 1.5},
        {"kind": "wpo_hybrid_v1", "seed": None},
        {"kind": "dno"},
        {"kind": "dno", "teacher": [], "repetition": {}},
        {"kind": "dno", "teacher": [], "repetition": {"n": 0, "share": 0.5}},
        {"kind": "dno", "teacher": [], "repetition": {"n": 3, "share": 0}},
        {"kind": "dno", "teacher": [], "repetition": {"n": 3, "share": 1}},
        {"kind": "dno", "teacher": [], "repetition": {"n": 3, "share": 0.5, "score": 5}},
        {"kind": "by_comparisons"},
        {"kind": "by_comparisons", "ranking": "elo"},
        {"kind": "by_comparisons", "ranking": "borda", "chosen": {"by": [{"kind": "nearest_length"}]}},
        {"kind": "top_k_vs_bottom_k", "k": 0},
        {"kind": "sppo", "probabilities": "paper"},
        {"kind": "wpo_hybrid_v2", "label": {"kind": "margin", "temperature": 0}},
        {"kind": "python", "path": "no function"},
        {"kind": "python"},
    ],
)
def test_an_option_with_a_wrong_value_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(options)


@pytest.mark.parametrize(
    ("spec", "option"), [(WPOHybridV2(), "length"), (Selection(by=(Highest(),)), "by"), (Highest(), "kind")]
)
def test_rules_are_frozen(spec: Spec, option: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(spec, option, getattr(spec, option))


def test_rules_are_loaded_without_any_heavy_package() -> None:
    program = (
        "import sys\n"
        "from prefdata.pairing import WPOHybridV2\n"
        "WPOHybridV2.model_validate(WPOHybridV2().dump()).fingerprint()\n"
        "print([name for name in ('polars', 'pyarrow', 'numpy', 'pandas', 'torch') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
