"""Reads the tables of an evaluation: instructions with a baseline's outputs, and annotations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata import hub
from prefdata.errors import InputError
from prefdata.spec import JSON
from prefdata.tables import files
from prefdata.tables.documents import check_regular, parse_json
from prefdata.tables.table import check_columns

__all__ = ["PUBLISHED_BASELINE", "Instruction", "InstructionSet", "read_instructions", "read_list"]

PUBLISHED_BASELINE = "83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4"
"""SHA-256 of alpaca_eval_gpt4_baseline.json in the dataset tatsu-lab/alpaca_eval of the Hub."""
_DEFAULT_FILE = "alpaca_eval_gpt4_baseline.json"
_ON_HUB = re.compile(r"(?:hf:)?(?P<repo>[\w.-]+/[\w.-]+(@[\w./-]+)?)(:(?P<file>[^:]+))?")
_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Instruction:
    """One row of an evaluation set."""

    index: int
    """Position in the set."""
    text: str
    dataset: str | None = None
    """The part of the set that it comes from."""
    baseline: str | None = None
    """The baseline's output; None where the set has none."""


@dataclass(frozen=True)
class InstructionSet:
    """An evaluation set."""

    name: str
    sha256: str
    rows: tuple[Instruction, ...]
    generator: str
    """Name of the baseline."""

    @property
    def has_baseline(self) -> bool:
        """Whether each instruction has the output of a baseline."""
        return all(row.baseline is not None for row in self.rows)


def read_instructions(where: str | Path) -> InstructionSet:
    """Reads a set of instructions, with the outputs of a baseline where it has them.

    Args:
        where: a file (JSON list, JSON lines, CSV or Parquet) with a column `instruction`, and `output`, `generator` and
            `dataset` where it has them; or `OWNER/NAME[@REVISION][:FILE]` of the Hub.

    Raises:
        InputError: it can't be read, or lacks a column.
    """
    path = _local(where)
    rows = read_list(path)
    _check(str(where), rows)
    instructions = tuple(
        Instruction(index, row["instruction"], _text(row.get("dataset")), row.get("output"))
        for index, row in enumerate(rows)
    )
    generators = dict.fromkeys(filter(None, (_text(row.get("generator")) for row in rows)))
    return InstructionSet(path.name, files.sha256(path), instructions, next(iter(generators), "baseline"))


def read_list(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of a file; `.json` may hold one list of objects.

    Raises:
        InputError: it can't be read, or holds something else.
    """
    if path.suffix.lower() != ".json" or not path.is_file():
        return list(files.rows(path))
    check_regular(path)
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{str(path)!r} has more than {_MOST_BYTES >> 30} GB", hint="leave out rows of other models")
    try:
        text = path.read_text(encoding="utf-8")
        if not text.lstrip().startswith("["):
            return list(files.rows(path))
        value: JSON = parse_json(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is not JSON: {error}", hint="copy the file again") from error
    if not all(isinstance(row, dict) for row in value):
        raise InputError(f"{str(path)!r} is not a list of objects", valid="a list of objects, one a row")
    return list(value)


def _local(where: str | Path) -> Path:
    path = Path(where).expanduser()
    if isinstance(where, Path) or path.exists():
        return path
    named = _ON_HUB.fullmatch(where)
    if named is None or (path.suffix.lower() in (".json", ".jsonl", ".csv", ".parquet") and named["file"] is None):
        return path
    file = named["file"] or _DEFAULT_FILE
    return hub.find_dataset(f"hf:{named['repo']}", only=hub.one_file(file)).path / file


def _check(where: str, rows: Iterable[dict[str, Any]]) -> None:
    number = 0
    for number, row in enumerate(rows, 1):
        check_columns(f"the evaluation set {where!r}", ["instruction"], row)
        instruction, output = row["instruction"], row.get("output")
        if not isinstance(instruction, str) or not instruction.strip():
            raise InputError(f"the evaluation set {where!r}, row {number}: the instruction is not a text")
        if row.get("input"):
            raise InputError(
                f"the evaluation set {where!r}, row {number}: has an `input` beside the instruction",
                hint="join both into the column `instruction`, as AlpacaEval does",
            )
        if output is not None and not isinstance(output, str):
            raise InputError(f"the evaluation set {where!r}, row {number}: the output is not a text")
    if not number:
        raise InputError(f"the evaluation set {where!r} has no rows")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
