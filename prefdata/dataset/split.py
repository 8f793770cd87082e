"""Which prompts are held out for testing."""

from __future__ import annotations

from collections.abc import Iterable

from prefdata.spec import derive_seed

__all__ = ["held_out"]


def held_out(prompt_ids: Iterable[str], test_size: int | float, seed: int) -> frozenset[str]:
    """The prompts of the test split: those with the smallest seeded hash.

    It is drawn among all prompts, before any pair is made, so two rules over the same prompts are tested on the same
    ones, and train and test never share a prompt.

    Args:
        prompt_ids: ids of all prompts; their order doesn't matter.
        test_size: a number of prompts, or a share (rounded down).
        seed: another seed holds out other prompts.
    """
    ids = set(prompt_ids)
    size = test_size if isinstance(test_size, int) else int(test_size * len(ids))
    return frozenset(sorted(ids, key=lambda prompt_id: (derive_seed("split", seed, prompt_id), prompt_id))[:size])
