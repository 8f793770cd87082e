"""The answers in one row of a table: one answer, lists side by side, or a list of objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefdata.tables.cells import parse_score

__all__ = ["ANSWER_ROLES", "answers_of_row", "last_turn", "whole_number"]

ANSWER_ROLES = ("response", "score", "source", "model", "index", "finish_reason", "n_tokens")
"""What a column, or a key of an object, can say of one answer."""


def answers_of_row(
    row: Mapping[str, Any], named: Mapping[str, str], completions: str | None = None
) -> list[dict[str, Any]] | str:
    """Reads the answers in a row, one dict of roles each; a text says why there are none.

    Lists in several columns are read side by side, and must have one length; a value that is not a list holds for all
    answers of the row.

    Args:
        row: its cells, by column.
        named: role (of `ANSWER_ROLES`) → column, or key of an object in `completions`.
        completions: the column that holds a list of objects, one an answer.
    """
    if completions is not None:
        objects = row[completions]
        if objects is None:
            return []
        if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
            return f"{completions!r} is not a list of objects"
        return [{role: item.get(key) for role, key in named.items()} for item in objects]
    cells = {role: row[name] for role, name in named.items()}
    texts = cells["response"]
    if not isinstance(texts, list):
        return [cells]
    for role, cell in cells.items():
        if isinstance(cell, list) and len(cell) != len(texts):
            return f"{named[role]!r} has {len(cell)} values for {len(texts)} answers"
    return [
        {role: cell[number] if isinstance(cell, list) else cell for role, cell in cells.items()}
        for number in range(len(texts))
    ]


def whole_number(value: object) -> int | None:
    """Returns a whole number from 0 to 2⁵³ - 1, also as text or as a float that is one; None for anything else."""
    number = parse_score(value)
    return int(number) if number is not None and 0 <= number < 2**53 and number == int(number) else None


def last_turn(cell: object) -> object:
    """Returns the text of a conversation's last message; anything else is returned as it is."""
    if isinstance(cell, list) and cell and isinstance(cell[-1], dict):
        return cell[-1].get("content")
    return cell
