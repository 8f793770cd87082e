"""Flags of a pair that don't follow from its texts: what filters and the members of an ensemble said of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from prefdata.page.rows import PageRow

__all__ = ["DISAGREEMENT", "Scores", "duplicates_of", "members_disagree"]

Scores: TypeAlias = Mapping[tuple[str, str | None, int | None], float | None]
"""Prompt, source and index of an answer → its score."""
DISAGREEMENT = "members disagree"
_EARLIER = {
    "near_duplicate": ("near-duplicates dropped", re.compile(r"similarity [\d.]+ to (.+)", re.DOTALL)),
    "exact_duplicate": ("duplicates dropped", re.compile(r"says what (.+) says", re.DOTALL)),
}
"""Reason of a drop → the flag of the prompt that was kept in its place, and how the drop's detail names that."""


def duplicates_of(drops: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Gives the flags of prompts of which a filter dropped duplicates: the id of the kept prompt → flags."""
    flags: dict[str, list[str]] = {}
    for drop in drops:
        flag, pattern = _EARLIER.get(drop["reason"], ("", None))
        if pattern is not None and (found := pattern.fullmatch(drop["detail"] or "")) is not None:
            kept = flags.setdefault(found[1], [])
            kept += [flag] if flag not in kept else []
    return flags


def members_disagree(row: PageRow, members: Sequence[Scores]) -> bool:
    """Says whether one member of an ensemble prefers the chosen answer, and another one the rejected.

    Args:
        row: a pair.
        members: of one ensemble.
    """
    sides = [row.side(place) for place in (row.chosen, row.rejected)]
    keys = [(row.prompt_id, side.source, side.number) for side in sides if side]
    if len(keys) < 2:
        return False
    prefers: set[bool] = set()
    for member in members:
        one, other = map(member.get, keys)
        if one is not None and other is not None and one != other:
            prefers.add(one > other)
    return len(prefers) > 1
