"""Mean ranks within groups: the ways for few answers and for any number agree, and both with a plain count."""

from __future__ import annotations

import numpy as np
import pytest

from prefdata.dataset import measures


@pytest.mark.parametrize("count", [2, 3, 6, 12, 13, 40])
def test_both_ways_are_the_number_of_lower_values_less_that_of_higher_ones(monkeypatch, count):
    values = np.random.default_rng(count).integers(0, 5, (count, 30)) / 2
    values[:, 0] = 1.5
    values[:, 1] = np.arange(count)
    expected = (values[:, None] > values).sum(1) - (values[:, None] < values).sum(1)
    assert measures._centred_ranks(values).tolist() == expected.tolist()
    monkeypatch.setattr(measures, "_FEW_ANSWERS", 0)
    assert measures._centred_ranks(values).tolist() == expected.tolist()
    monkeypatch.setattr(measures, "_FEW_ANSWERS", 100)
    assert measures._centred_ranks(values).tolist() == expected.tolist()


def test_sums_of_products_of_few_ranks_fit_into_their_type():
    ranks = measures._centred_ranks(np.arange(measures._FEW_ANSWERS)[:, None])
    assert (ranks.astype(int) ** 2).sum() <= np.iinfo(ranks.dtype).max


@pytest.mark.parametrize(
    ("groups", "rows"),
    [
        ([], []),
        ([5], []),
        ([1, 2, 3], []),
        ([7, 7], [[[0], [1]]]),
        ([0, 0, 3, 4, 4, 4, 9, 9], [[[0, 6], [1, 7]], [[3], [4], [5]]]),
    ],
)
def test_groups_of_one_size_are_the_columns_of_one_array(groups, rows):
    assert [found.tolist() for found in measures._rows_by_size(np.array(groups, np.int64))] == rows


def test_groups_that_lie_apart_are_put_together_without_the_rows_that_are_not_known():
    groups, present = np.array([3, 1, 3, 2, 1, 3]), np.array([True, True, False, True, True, True])
    assert [found.tolist() for found in measures._rows_by_size(groups)] == [[[1], [4]], [[0], [2], [5]]]
    assert [found.tolist() for found in measures._rows_by_size(groups, present)] == [[[1, 0], [4, 5]]]
    assert measures._rows_by_size(groups, present & False) == []
