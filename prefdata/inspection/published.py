"""Reads published preference datasets that still carry what their pairs were made of, as Snorkel's and SimPO's do.

Each row has lists of answers and of scores, and the published `chosen` and `rejected`, as texts or as conversations
whose last assistant turn counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from prefdata.errors import InputError, closest
from prefdata.hub import find_dataset
from prefdata.records import prompt_id_of
from prefdata.tables import files
from prefdata.tables.cells import Unusable, parse_score, read_conversation

__all__ = ["PUBLISHED_ROLES", "Published", "read_published"]

PUBLISHED_ROLES = {
    "prompt_id": "prompt_id",
    "prompt": "prompt",
    "response": "all_generated_responses",
    "score": "all_rm_scores",
    "chosen": "chosen",
    "rejected": "rejected",
}
"""Role → the column that has it unless it is named otherwise."""
_OPTIONAL = ("prompt_id", "prompt")
_SPLIT = re.compile(r"(.*?)(?:-\d{5}-of-\d{5}.*)?\.parquet")


class Published(NamedTuple):
    """One published pair with the answers and scores beside it."""

    row: int
    """Its number in the table."""
    prompt_id: str
    answers: list[str | None]
    scores: list[float | None]
    chosen: str | None
    """The published text; None where there is none."""
    rejected: str | None
    misaligned: bool
    """Whether there are more answers than scores, or fewer."""


def read_published(
    where: str | PathLike[str], *, columns: Mapping[str, str] | None = None, split: str | None = None
) -> Iterator[Published]:
    """The rows, in order.

    Args:
        where: a Parquet, JSON lines or CSV file, the folder of a dataset, or `OWNER/NAME[@REVISION]` of the Hub.
        columns: role → name of the column, where it is not the one of `PUBLISHED_ROLES`.
        split: which split of a folder; left out, `train` or else the first.

    Raises:
        InputError: the table can't be read as such a dataset.
    """
    paths = _tables(find_dataset(where).path, split)
    count = 0
    for path in paths:
        named = _columns(path, columns or {})
        for row in files.rows(path, only=list(named.values())):
            cells = {role: row[name] for role, name in named.items()}
            answers, scores = _list(cells["response"]), _list(cells["score"])
            yield Published(
                row=count,
                prompt_id=_prompt_id(cells, count),
                answers=[text if isinstance(text, str) else None for text in answers],
                scores=[parse_score(score) for score in scores],
                chosen=_last_turn(cells["chosen"]),
                rejected=_last_turn(cells["rejected"]),
                misaligned=len(answers) != len(scores),
            )
            count += 1


def _tables(path: Path, split: str | None) -> list[Path]:
    if not path.is_dir():
        if split is not None:
            raise InputError(f"{str(path)!r} is not a folder, so it has no split {split!r}", hint="leave --split out")
        return [path]
    splits: dict[str, list[Path]] = {}
    for file in sorted(path.rglob("*.parquet")):
        name = _SPLIT.fullmatch(file.name)
        if name and file.parent.name != "candidates" and not file.name.startswith("drops"):
            splits.setdefault(name[1], []).append(file)
    if not splits:
        raise InputError(
            f"{str(path)!r} holds no Parquet file",
            valid="a dataset folder as the Hub has it, or one table",
            hint="a folder of `save_to_disk`: datasets.load_from_disk(FOLDER).to_parquet(FILE)",
        )
    taken = split or ("train" if "train" in splits else min(splits))
    if taken not in splits:
        raise InputError(f"{str(path)!r} has no split {taken!r}", valid=closest(taken, splits))
    return splits[taken]


def _columns(path: Path, given: Mapping[str, str]) -> dict[str, str]:
    have = files.columns(path)
    for role in given:
        if role not in PUBLISHED_ROLES:
            raise InputError(
                f"{role!r} is no role of a column", valid=closest(role, PUBLISHED_ROLES), hint="--columns ROLE=NAME"
            )
    named = {**PUBLISHED_ROLES, **given}
    for role, name in named.items():
        if name not in have and (role not in _OPTIONAL or role in given):
            raise InputError(
                f"{str(path)!r} has no column {name!r}, which would be the {role}",
                valid=closest(name, have),
                hint=f"name it: --columns {role}=NAME",
            )
    return {role: name for role, name in named.items() if name in have}


def _list(cell: object) -> list[Any]:
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return []
    return list(cell) if isinstance(cell, list | tuple) else []


def _prompt_id(cells: Mapping[str, object], row: int) -> str:
    if cells.get("prompt_id") is not None:
        return str(cells["prompt_id"])
    found = read_conversation(cells.get("prompt"))
    return f"row {row}" if isinstance(found, Unusable) else prompt_id_of(found)


def _last_turn(cell: object) -> str | None:
    """The text that was published: a text, or the last assistant turn of a conversation."""
    if isinstance(cell, str) and not cell.lstrip().startswith("[{"):
        return cell
    turns = [turn for turn in _list(cell) if isinstance(turn, dict) and turn.get("role") == "assistant"]
    text = turns[-1].get("content") if turns else cell
    return text if isinstance(text, str) else None
