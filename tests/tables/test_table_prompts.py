"""Which prompts of a table are one, in its lists of messages."""

from __future__ import annotations

from itertools import combinations

import polars as pl
import pytest

from prefdata.records import prompt_id_of
from prefdata.tables.table_prompts import described_prompts, prompt_hashes

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


ODD_TEXTS = [
    "".join(map(chr, range(0x300))),
    '\\" \\\\ \\u0000 "a" {"role":"user"}],[',
    "\u2028\u2029\ufeff\uffff \U0001f600 e\u0301 </script>",
    "[{} $1 %s",
]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_list_has_the_id_of_its_messages_whatever_they_say(text):
    user, system, answer = ({"role": role, "content": text} for role in ("user", "system", "assistant"))
    lists = [[user], [system, user], [user, answer, USER], [USER, ANSWER, user], [user, USER], [USER]]
    for some in (lists, lists[:1], lists[1:2], [*lists, *lists]):
        described = described_prompts(pl.Series(some, dtype=KIND), with_ids=True)
        assert described["prompt_id"].to_list() == [prompt_id_of(messages) for messages in some]
        assert described["messages"].to_list() == some


@pytest.mark.parametrize("around", [[], [None], [[]], [[USER, ANSWER]], [None, [], [USER]]])
def test_a_list_has_its_hash_wherever_it_is(around):
    hashes = prompt_hashes(pl.Series([*around, *DIFFERENT, *around], dtype=KIND)).to_list()
    assert (
        hashes[len(around) : len(around) + len(DIFFERENT)] == prompt_hashes(pl.Series(DIFFERENT, dtype=KIND)).to_list()
    )
    assert [value is None for value in hashes[: len(around)]] == [row is None for row in around]
