"""`held_out`: selects the prompts of the test split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from prefdata.spec import derive_seed

__all__ = ["held_out"]

_NO_SPLITS: Mapping[str, str] = MappingProxyType({})
"""No prompt is assigned to a split."""


def held_out(
    prompt_ids: Iterable[str], test_size: int | float, seed: int, assigned: Mapping[str, str] = _NO_SPLITS
) -> frozenset[str]:
    """Selects the test split: prompts that their source assigns to it, then those with the smallest seeded hash.

    The latter are drawn among the prompts without an assignment, before any pair is made. So two rules over the same
    prompts are tested on the same ones, and train and test never share a prompt.

    Args:
        prompt_ids: ids of all prompts; their order doesn't matter.
        test_size: a number of prompts, or a share (rounded down).
        seed: another seed holds out other prompts.
        assigned: prompt id → `train` or `test`, for prompts whose source assigns them to a split.
    """
    ids = set(prompt_ids)
    assigned_to_test = {prompt_id for prompt_id in ids & assigned.keys() if assigned[prompt_id] == "test"}
    ids -= assigned.keys()
    size = test_size if isinstance(test_size, int) else int(test_size * len(ids))
    drawn = sorted(ids, key=lambda prompt_id: (derive_seed("split", seed, prompt_id), prompt_id))[:size]
    return frozenset(assigned_to_test.union(drawn))
