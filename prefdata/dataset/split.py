"""Which prompts are held out for testing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from prefdata.spec import derive_seed

__all__ = ["held_out"]

_NOTHING: Mapping[str, str] = MappingProxyType({})
"""No source says anything."""


def held_out(
    prompt_ids: Iterable[str], test_size: int | float, seed: int, given: Mapping[str, str] = _NOTHING
) -> frozenset[str]:
    """The prompts of the test split: those that their source puts there, then those with the smallest seeded hash.

    They are drawn among the prompts that no source puts anywhere, before any pair is made. So two rules over the same
    prompts are tested on the same ones, and train and test never share a prompt.

    Args:
        prompt_ids: ids of all prompts; their order doesn't matter.
        test_size: a number of prompts, or a share (rounded down).
        seed: another seed holds out other prompts.
        given: prompt id → `train` or `test`, for prompts whose source says so.
    """
    ids = set(prompt_ids)
    told = {prompt_id for prompt_id in ids & given.keys() if given[prompt_id] == "test"}
    ids -= given.keys()
    size = test_size if isinstance(test_size, int) else int(test_size * len(ids))
    drawn = sorted(ids, key=lambda prompt_id: (derive_seed("split", seed, prompt_id), prompt_id))[:size]
    return frozenset(told.union(drawn))
