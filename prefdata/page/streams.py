"""Reads sorted tables prompt by prompt, and several of them side by side: joined by id, a few rows in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

from prefdata.errors import InputError
from prefdata.lazy import pa
from prefdata.tables.documents import check_regular
from prefdata.tables.parquet import open_parquet, rows_at_once

__all__ = ["Group", "Rows", "aligned", "by_prompt", "file_rows", "text_bytes"]

Rows: TypeAlias = list[dict[str, Any]]
Group: TypeAlias = tuple[str, Rows]
"""A prompt's id with its rows of one table."""
_BATCH = 1_000
_ONCE = "prompt"
"""A column that is the same in all rows of a prompt: it is read from the first one only."""
_NUMBERS = ("index", "score", "pair_index", "score_", "length_", "n_", "index_")
"""Columns of numbers, by how their names begin; all others hold texts."""


def by_prompt(files: Sequence[Path], folder: Path, columns: Sequence[str]) -> Iterator[Group]:
    """Yields the rows of each prompt of one table.

    Args:
        files: the table's files, in order.
        folder: out of which no link may lead.
        columns: to read, where the files have them; `prompt` is in the first row of each prompt only.

    Raises:
        InputError: a file is not whole, or its ids do not ascend.
    """
    last = ""
    for prompt_id, rows in groupby(file_rows(files, folder, columns), lambda row: row["prompt_id"]):
        if not isinstance(prompt_id, str) or prompt_id < last:
            raise InputError(
                f"the rows of {str(files[0].parent)!r} are not in the order in which prefdata writes them",
                hint="prefdata verify lists what differs",
            )
        last = prompt_id
        yield prompt_id, list(rows)


def file_rows(files: Sequence[Path], folder: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields the rows of Parquet files as dicts.

    Raises:
        InputError: a file is not whole, or lacks the column `prompt_id`.
    """
    for path in files:
        check_regular(path, folder)
        size = rows_at_once(path, _BATCH)
        with open_parquet(path) as file:
            names = [name for name in columns if name in file.schema_arrow.names]
            if "prompt_id" not in names:
                raise InputError(f"{str(path)!r} has no column 'prompt_id'", hint="prefdata verify lists what differs")
            for name in names:
                _check_type(path, name, file.schema_arrow.field(name).type)
            for batch in file.iter_batches(batch_size=size, columns=names):
                yield from _dicts(batch)


def _check_type(path: Path, name: str, kind: pa.DataType) -> None:
    if pa.types.is_null(kind):
        return
    if name == _ONCE:
        fits = pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)
    elif name.startswith(_NUMBERS):
        fits = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    else:
        fits = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not fits:
        raise InputError(
            f"{str(path)!r}: the column {name!r} is not of the type that prefdata writes: {kind}",
            hint="prefdata verify lists what differs",
        )


def _dicts(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    ids = batch.column("prompt_id").to_pylist()
    columns = {name: batch.column(name) for name in batch.schema.names if name != _ONCE}
    values = {name: _finite(column) for name, column in columns.items()}
    prompts = batch.column(_ONCE) if _ONCE in batch.schema.names else None
    for number, prompt_id in enumerate(ids):
        row = {name: column[number] for name, column in values.items()}
        if prompts is not None and (number == 0 or ids[number - 1] != prompt_id):
            row[_ONCE] = prompts[number].as_py()
        yield row


def _finite(column: pa.Array) -> list[Any]:
    """Reads a column; infinities and NaN, which only foreign hands write, are null."""
    values: list[Any] = column.to_pylist()
    if not pa.types.is_floating(column.type):
        return values
    return [value if value is not None and math.isfinite(value) else None for value in values]


def aligned(*streams: Iterable[Group]) -> Iterator[tuple[str, list[Rows]]]:
    """Yields every id of any stream, ascending, with its rows of each; all streams ascend."""
    waiting = [iter(stream) for stream in streams]
    heads = [next(stream, None) for stream in waiting]
    while ids := [head[0] for head in heads if head is not None]:
        first = min(ids)
        found: list[Rows] = []
        for number, head in enumerate(heads):
            if head is not None and head[0] == first:
                found.append(head[1])
                heads[number] = next(waiting[number], None)
            else:
                found.append([])
        yield first, found


def text_bytes(files: Iterable[Path]) -> int:
    """Says about how many bytes the tables hold when nothing is compressed."""
    total = 0
    for path in files:
        if path.suffix == ".parquet":
            with open_parquet(path) as file:
                groups = file.metadata
                total += sum(groups.row_group(n).total_byte_size for n in range(groups.num_row_groups))
        else:
            total += path.stat().st_size
    return total
