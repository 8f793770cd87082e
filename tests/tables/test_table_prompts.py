"""Which prompts of a table are one, in its lists of messages."""

from __future__ import annotations

from itertools import combinations

import polars as pl
import pytest

from prefdata.tables.table_prompts import prompt_hashes

KIND = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
DIFFERENT = [
    [],
    [USER],
    [ANSWER],
    [USER, USER],
    [USER, ANSWER],
    [ANSWER, USER],
    [USER, ANSWER, USER],
    [{"role": "user", "content": ""}],
    [{"role": "user", "content": None}],
    [{"role": None, "content": "a"}],
    [{"role": "a", "content": "user"}],
    [{"role": None, "content": None}],
]


@pytest.mark.parametrize(("one", "other"), list(combinations(range(len(DIFFERENT)), 2)))
def test_lists_that_differ_are_different_prompts(one, other):
    first, second = prompt_hashes(pl.Series([DIFFERENT[one], DIFFERENT[other]], dtype=KIND))
    assert first != second


def test_no_list_is_taken_for_a_row_without_a_prompt():
    # Such rows have the key 0 where a table has no ids.
    assert 0 not in prompt_hashes(pl.Series(DIFFERENT, dtype=KIND)).to_list()


@pytest.mark.parametrize("around", [[], [None], [[]], [[USER, ANSWER]], [None, [], [USER]]])
def test_a_list_has_its_hash_wherever_it_is(around):
    hashes = prompt_hashes(pl.Series([*around, *DIFFERENT, *around], dtype=KIND)).to_list()
    assert (
        hashes[len(around) : len(around) + len(DIFFERENT)] == prompt_hashes(pl.Series(DIFFERENT, dtype=KIND)).to_list()
    )
    assert [value is None for value in hashes[: len(around)]] == [row is None for row in around]
