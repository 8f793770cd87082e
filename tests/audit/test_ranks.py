"""Mean ranks within groups: the ways for few answers and for any number agree, and both with a plain count."""

from __future__ import annotations

import numpy as np
import pytest

from prefdata.audit import measures


@pytest.mark.parametrize("most", [1, 2, 6, 12, 13, 40])
def test_both_ways_are_the_number_of_lower_values_less_that_of_higher_ones(monkeypatch, most):
    dice = np.random.default_rng(most)
    groups = np.repeat(np.arange(30), dice.integers(1, most + 1, 30)) * 7
    values = dice.integers(0, 5, len(groups)) / 2
    starts = measures._starts(groups)
    expected = [
        int(((values < value) & (groups == group)).sum() - ((values > value) & (groups == group)).sum())
        for value, group in zip(values, groups, strict=True)
    ]
    assert measures._centred_ranks(groups, starts, values).tolist() == expected
    monkeypatch.setattr(measures, "_FEW", 0)
    assert measures._centred_ranks(groups, starts, values).tolist() == expected
    monkeypatch.setattr(measures, "_FEW", 100)
    assert measures._centred_ranks(groups, starts, values).tolist() == expected
