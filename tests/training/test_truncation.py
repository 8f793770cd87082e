"""What is kept of a pair that is too long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.training.truncation import Pair, add_marks, cut, cut_as_published

CASES = json.loads((Path(__file__).parent / "vectors" / "truncation.json").read_text())["cases"]
BOS, EOS = 1, 2


def test_there_are_39_cases():
    assert len(CASES) == 39


@pytest.mark.parametrize("case", CASES)
def test_the_old_trainers_rule(case):
    begins, ends = case["prompt_begins_with_bos"], case["answers_end_with_eos"]
    prompt = [BOS] * begins + list(range(1000, 1000 + case["prompt"] - begins))
    sides = [list(range(5000, 5000 + case[side] - ends)) + [EOS] * ends for side in ("chosen", "rejected")]
    pair = add_marks(Pair(prompt, *sides), BOS, EOS, always=case["trainer"].startswith("sppo"))
    found = cut_as_published(pair, case["max_length"], case["max_prompt_length"])
    plain = [token for token in found.prompt if token != BOS]
    for side in ("chosen", "rejected"):
        answer = getattr(found, side)
        marks = next((place for place, token in enumerate(reversed(answer)) if token != EOS), len(answer))
        assert case["result"][side] == {
            "prompt_tokens": len(found.prompt),
            "answer_tokens": len(answer),
            "bos_in_front": len(found.prompt) - len(plain),
            "first_prompt_id": plain[0],
            "last_prompt_id": plain[-1],
            "eos_at_end": marks,
        }


ids = st.lists(st.integers(0, 9), max_size=30)


@given(
    ids, ids, ids, st.integers(1, 40), st.none() | st.integers(1, 40), st.sampled_from(["answer_start", "prompt_end"])
)
def test_nothing_is_longer_than_the_limit_and_what_is_kept_is_an_end_and_a_beginning(
    prompt, chosen, rejected, limit, most, keep
):
    whole = Pair(prompt, chosen, rejected)
    found = cut(whole, limit, most, keep=keep)
    assert found.length <= limit or not (found.chosen or found.rejected)
    assert len(found.prompt) <= (limit if most is None else most)
    assert prompt[len(prompt) - len(found.prompt) :] == found.prompt
    assert chosen[: len(found.chosen)] == found.chosen
    assert rejected[: len(found.rejected)] == found.rejected
    if whole.length <= limit and len(prompt) <= (limit if most is None else most):
        assert found == whole


def test_each_end():
    whole = Pair(list(range(10)), [20, 21, 22, 23], [30, 31])
    assert cut(whole, 12, None, keep="answer_start") == Pair(whole.prompt, [20, 21], [30, 31])
    assert cut(whole, 12, None, keep="prompt_end") == Pair(list(range(2, 10)), [20, 21, 22, 23], [30, 31])
    assert cut(whole, 12, 3, keep="answer_start") == Pair([7, 8, 9], [20, 21, 22, 23], [30, 31])
    assert cut(whole, 10, None, keep="answer_start") == Pair(whole.prompt, [], [])
