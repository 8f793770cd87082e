"""Krippendorff's alpha against his published example and his definition; Kendall's tau-b against examples and his."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import permutations
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.scoring import kendall_tau_b, krippendorff_alpha

Level = Literal["nominal", "ordinal", "interval"]
LEVELS: tuple[Level, ...] = ("nominal", "ordinal", "interval")

# The worked example D of Krippendorff (2011): four observers, twelve units, five values, data missing.
PUBLISHED: list[list[float | None]] = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(level: Level, alpha: float) -> None:
    found = krippendorff_alpha(PUBLISHED, level)
    assert found is not None
    assert round(found, 3) == alpha


def by_definition(ratings: list[list[float | None]], level: Level) -> float | None:
    """1 - D_o / D_e from the coincidence matrix, step by step as the paper has it."""
    coincidences: dict[tuple[float, float], float] = defaultdict(float)
    for unit in zip(*ratings, strict=True):
        values = [value for value in unit if value is not None]
        for c, k in permutations(values, 2):
            coincidences[c, k] += 1 / (len(values) - 1)
    totals: dict[float, float] = defaultdict(float)
    for (c, _), count in coincidences.items():
        totals[c] += count
    n = sum(totals.values())

    def difference(c: float, k: float) -> float:
        if level == "nominal":
            return float(c != k)
        if level == "interval":
            return (c - k) ** 2
        between = sum(count for value, count in totals.items() if min(c, k) <= value <= max(c, k))
        return (between - (totals[c] + totals[k]) / 2) ** 2

    observed = sum(count * difference(c, k) for (c, k), count in coincidences.items())
    expected = sum(totals[c] * totals[k] * difference(c, k) for c in totals for k in totals)
    return 1 - (n - 1) * observed / expected if expected else None


VALUES = st.one_of(st.none(), st.integers(-3, 3).map(float), st.sampled_from([0.25, 1e6]))
RATINGS = st.integers(1, 4).flatmap(
    lambda raters: st.lists(st.lists(VALUES, min_size=raters, max_size=raters), min_size=1, max_size=8).map(
        lambda units: [list(row) for row in zip(*units, strict=True)]
    )
)


@settings(max_examples=150, deadline=None)
@given(ratings=RATINGS, level=st.sampled_from(LEVELS))
def test_alpha_is_what_the_definition_says(ratings: list[list[float | None]], level: Level) -> None:
    found, defined = krippendorff_alpha(ratings, level), by_definition(ratings, level)
    assert (found is None) == (defined is None)
    if found is not None:
        assert found == pytest.approx(defined, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("level", LEVELS)
def test_alpha_is_1_for_raters_who_agree_0_or_less_for_those_who_never_do_and_undefined_without_contrast(
    level: Level,
) -> None:
    assert krippendorff_alpha([[1, 2, 5, None], [1, 2, 5, 3]], level) == 1
    assert krippendorff_alpha([[1, 2], [2, 1]], level) == pytest.approx(-0.5)
    for undefined in ([], [[]], [[1, 2, 3]], [[1, 1], [1, 1]], [[1, None], [None, 2]]):
        assert krippendorff_alpha(undefined, level) is None


def test_interval_alpha_knows_no_unit_and_no_size() -> None:
    small, large = [[1.0, 2.0, 4.0], [1.0, 3.0, 4.0]], [[1e200, 2e200, 4e200], [1e200, 3e200, 4e200]]
    assert krippendorff_alpha(large, "interval") == pytest.approx(krippendorff_alpha(small, "interval"))


@pytest.mark.parametrize(
    ("first", "second", "tau"),
    [
        ([1, 2, 3], [10, 20, 30], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 3], [1, 3, 2], 1 / 3),
        # One tie: 2 concordant of 3 pairs, sqrt(3 x 2) below.
        ([1, 2, 3], [1, 1, 2], 2 / math.sqrt(6)),
        ([1, 1, 2], [1, 2, 2], 1 / 2),
        ([1, 1], [1, 2], None),
        ([1], [2], None),
        ([], [], None),
    ],
)
def test_tau_b_of_small_examples(first: list[float], second: list[float], tau: float | None) -> None:
    assert kendall_tau_b(first, second) == (None if tau is None else pytest.approx(tau))


def test_tau_b_of_lists_of_unequal_length_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="shorter"):
        kendall_tau_b([1, 2], [1])


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12))
def test_tau_b_is_what_the_definition_says(rows: list[tuple[int, int]]) -> None:
    first, second = np.array(rows).T
    signs = [np.sign(np.subtract.outer(ranks, ranks)) for ranks in (first, second)]
    untied = [float((sign**2).sum()) for sign in signs]
    found = kendall_tau_b(list(map(float, first)), list(map(float, second)))
    if 0 in untied:
        assert found is None
    else:
        assert found == pytest.approx(float((signs[0] * signs[1]).sum()) / math.sqrt(untied[0] * untied[1]))
