"""Reads published preference datasets that also hold the answers and scores of their pairs.

Each row, as Snorkel and SimPO have it, has lists of answers and of scores, and the published `chosen` and `rejected`:
texts, or conversations whose last assistant turn is the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prefdata.errors import InputError, closest
from prefdata.hub import DatasetTables
from prefdata.records import prompt_id_of
from prefdata.tables import files
from prefdata.tables.cells import Unusable, as_turn, json_turns, parse_score, read_conversation
from prefdata.tables.row_answers import answer_text
from prefdata.tables.scored_rows import ALIASES, ROLES
from prefdata.tables.table import Table
from prefdata.tables.written import check_turns, read_written

__all__ = ["PUBLISHED_ROLES", "PublishedPair", "read_published"]

PUBLISHED_ROLES = {
    **{role: ALIASES.get(role, role) for role in ROLES if role in ("prompt_id", "prompt", "response", "score")},
    "chosen": "chosen",
    "rejected": "rejected",
}
"""Role → its column, unless another one is named."""
_OPTIONAL = ("prompt_id", "prompt")


class PublishedPair(NamedTuple):
    """One published pair with the answers and scores of its prompt."""

    row: int
    """Its number in the table."""
    prompt_id: str
    answers: list[str | None]
    scores: list[float | None]
    chosen: str | None
    """The published text; None where there is none."""
    rejected: str | None
    misaligned: bool
    """Whether the numbers of answers and of scores differ."""


def read_published(tables: DatasetTables, *, columns: Mapping[str, str] | None = None) -> Iterator[PublishedPair]:
    """Yields the rows of the tables, in order.

    Args:
        tables: the files of one split.
        columns: role → name of the column, where it differs from `PUBLISHED_ROLES`.

    Raises:
        InputError: a table can't be read as such a dataset.
    """
    paths = [path for files_of in tables.splits.values() for path in files_of]
    count = 0
    for path in paths:
        named = _columns(path, columns or {})
        for row in files.rows(path, only=list(named.values())):
            cells = {role: row[name] for role, name in named.items()}
            where = f"{path.name if isinstance(path, Table) else repr(str(path))}, row {count + 1}"
            answers, scores = (_list(cells[role], named[role], where) for role in ("response", "score"))
            answers = [answer_text(answer) for answer in answers]
            yield PublishedPair(
                row=count,
                prompt_id=_prompt_id(cells, count),
                answers=[text if isinstance(text, str) else None for text in answers],
                scores=[parse_score(score) for score in scores],
                chosen=_last_turn(cells["chosen"], named["chosen"], where),
                rejected=_last_turn(cells["rejected"], named["rejected"], where),
                misaligned=len(answers) != len(scores),
            )
            count += 1


def _columns(path: Path | Table, given: Mapping[str, str]) -> dict[str, str]:
    have = files.columns(path)
    what = path.name if isinstance(path, Table) else repr(str(path))
    for role in given:
        if role not in PUBLISHED_ROLES:
            raise InputError(
                f"{role!r} is not a known column role", valid=closest(role, PUBLISHED_ROLES), hint="--columns ROLE=NAME"
            )
    named = {**PUBLISHED_ROLES, **given}
    for role, name in named.items():
        if name not in have and (role not in _OPTIONAL or role in given):
            raise InputError(
                f"{what} has no column {name!r} for the role {role!r}",
                valid=closest(name, have),
                hint=f"name it: --columns {role}=NAME",
            )
    return {role: name for role, name in named.items() if name in have}


def _list(cell: object, column: str, where: str) -> list[Any]:
    cell = read_written(cell, column, where)
    return list(cell) if isinstance(cell, list | tuple) else []


def _prompt_id(cells: Mapping[str, object], row: int) -> str:
    if cells.get("prompt_id") is not None:
        return str(cells["prompt_id"])
    found = read_conversation(cells.get("prompt"))
    return f"row {row}" if isinstance(found, Unusable) else prompt_id_of(found)


def _last_turn(cell: object, column: str, where: str) -> str | None:
    """Returns the published text: a text, or the last assistant turn of a conversation."""
    check_turns(cell, column, where)
    cell = (json_turns(cell) if isinstance(cell, str) else None) or cell
    turns = [as_turn(turn) for turn in cell if isinstance(turn, dict)] if isinstance(cell, list) else []
    said = [turn for turn in turns if turn.get("role") == "assistant"]
    text = said[-1].get("content") if said else cell
    return text if isinstance(text, str) else None
