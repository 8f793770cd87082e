"""Which prompts are held out."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefdata.dataset import TRLPairs, held_out

IDS = [f"p{number}" for number in range(200)]
ids = st.lists(st.text(max_size=5), unique=True, max_size=30)


@given(ids, st.integers(0, 40), st.integers(0, 2**53))
def test_a_number_holds_out_that_many_or_all_there_are(prompt_ids, size, seed):
    held = held_out(prompt_ids, size, seed)
    assert len(held) == min(size, len(prompt_ids))
    assert held <= set(prompt_ids)


@given(ids, st.floats(0.001, 0.999), st.integers(0, 5))
def test_a_share_is_rounded_down(prompt_ids, share, seed):
    assert len(held_out(prompt_ids, share, seed)) == int(share * len(prompt_ids))


@given(ids, st.integers(0, 40), st.randoms())
def test_neither_order_nor_repetition_matters(prompt_ids, size, random):
    mixed = [*prompt_ids, *prompt_ids]
    random.shuffle(mixed)
    assert held_out(iter(mixed), size, 1) == held_out(prompt_ids, size, 1)


@given(ids, st.integers(0, 39), st.integers(0, 5))
def test_a_larger_test_split_holds_the_smaller_one(prompt_ids, size, seed):
    assert held_out(prompt_ids, size, seed) <= held_out(prompt_ids, size + 1, seed)


def test_other_seeds_hold_out_others_and_no_prompt_is_preferred():
    drawn = [held_out(IDS, 20, seed) for seed in range(300)]
    assert len(set(drawn)) == 300
    counts = [sum(prompt_id in held for held in drawn) for prompt_id in IDS]
    # 300 draws of a tenth: 30 on average, standard deviation 5.2.
    assert min(counts) > 30 - 6 * 5.2
    assert max(counts) < 30 + 6 * 5.2


def test_it_is_the_same_on_every_machine():
    def hashed(prompt_id):
        return hashlib.sha256(f'["split",1,"{prompt_id}"]'.encode()).digest()[:8]

    assert held_out(IDS, 3, 1) == set(sorted(IDS, key=hashed)[:3]) == {"p154", "p181", "p19"}


def test_a_prompt_that_joins_moves_at_most_one_other():
    assert len(held_out(IDS, 20, 1) - held_out([*IDS, "new"], 20, 1)) <= 1


@given(ids, st.integers(0, 40), st.dictionaries(st.text(max_size=2), st.sampled_from(["train", "test"])))
def test_what_the_source_says_of_a_prompt_is_final_and_only_the_others_are_drawn(prompt_ids, size, splits):
    held = held_out(prompt_ids, size, 1, splits)
    assigned = {prompt_id: splits[prompt_id] for prompt_id in prompt_ids if prompt_id in splits}
    assert {prompt_id for prompt_id in assigned if prompt_id in held} == {
        key for key, split in assigned.items() if split == "test"
    }
    free = [prompt_id for prompt_id in prompt_ids if prompt_id not in splits]
    assert held - assigned.keys() == held_out(free, size, 1)


@pytest.mark.parametrize("size", [-1, 1.5, -0.5, float("nan"), "many"])
def test_a_size_that_is_neither_a_number_nor_a_share_is_refused(size):
    with pytest.raises(ValidationError, match="test_size"):
        TRLPairs(test_size=size)
