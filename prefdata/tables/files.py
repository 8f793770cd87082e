"""The one door for tables on this machine: files, folders and patterns of files, standard input, and frames.

Files are Parquet, Arrow, JSON lines, one JSON array, CSV and TSV, the text ones also compressed. A folder is one of
`save_to_disk`, or holds shards of one table. Rows come as dicts of plain Python values, streamed: memory holds one row
group's pages or one line. Every mistake in a file is one `InputError` that names the file and, in text files, the line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from prefdata.errors import InputError
from prefdata.spec import JSON, sha256_of_file
from prefdata.tables import shards
from prefdata.tables.arrow_tables import ArrowFile, ParquetFile
from prefdata.tables.frames import as_table
from prefdata.tables.standard_input import standard_input
from prefdata.tables.table import JoinedTable, Table
from prefdata.tables.text_table import TextFile

__all__ = [
    "TableLike",
    "bundled_sample",
    "columns",
    "label_of",
    "is_pattern",
    "open_file",
    "open_files",
    "open_table",
    "pin",
    "pinned",
    "rows",
    "sha256",
    "with_rows",
]

TableLike: TypeAlias = Any
"""A path, a `Table`, or a frame of pandas, Polars or Arrow, or a `datasets.Dataset`."""


def open_table(where: TableLike, split: str | None = None) -> Table:
    """Opens a table.

    Args:
        where: a file, a folder, a pattern of files, `-` for standard input, or a frame: see `TableLike`.
        split: the split of a folder that has several; None takes `train`, or the only one.

    Raises:
        InputError: there is no such table.
    """
    if isinstance(where, Table):
        return where
    if not isinstance(where, str | Path):
        return as_table(where)
    if str(where) == "-":
        return standard_input(open_file)
    parts = shards.files_of(Path(where).expanduser(), split)
    table = open_files(repr(str(where)), parts.files)
    table.other_splits = parts.other_splits
    return table


def is_pattern(where: str | PathLike[str]) -> bool:
    """Checks whether a path is a pattern of files."""
    return shards.is_pattern(Path(where).expanduser())


def open_files(name: str, paths: Sequence[Path]) -> Table:
    """Opens files one after the other as one table; see `with_rows`.

    Args:
        name: how messages call it, where there are several.
        paths: at least one.

    Raises:
        InputError: see `open_file`.
    """
    tables = [table for _, table in _opened(paths)]
    return tables[0] if len(tables) == 1 else JoinedTable(name, tables)


def with_rows(paths: Sequence[Path]) -> list[Path]:
    """Returns the parts of a table that have rows: programs such as Spark write some without any.

    Args:
        paths: at least one.

    Returns:
        At least one: of a table without any row the first part, which its reader refuses.

    Raises:
        InputError: see `open_file`.
    """
    return list(paths) if len(paths) == 1 else [path for path, _ in _opened(paths)]


def _opened(paths: Sequence[Path]) -> list[tuple[Path, Table]]:
    """Opens the parts that `with_rows` returns, each once."""
    if len(paths) > 1:
        opened = ((path, open_file(path)) for path in paths if not shards.is_blank(path))
        if found := [(path, table) for path, table in opened if table.has_rows()]:
            return found
    return [(paths[0], open_file(paths[0]))]


def open_file(path: Path) -> Table:
    """Opens one file.

    Raises:
        InputError: it is not a file, is empty, or its name has no ending of a table.
    """
    found = shards.layout_of(path)
    if found.kind == "parquet":
        return ParquetFile(path)
    if found.kind == "arrow":
        return ArrowFile(path)
    return TextFile(path, found.kind, found.codec)


def label_of(where: TableLike) -> str:
    """Returns how a card calls a table: a path's last part, and what is at hand by what it is."""
    if isinstance(where, str | Path):
        return "standard input" if str(where) == "-" else Path(where).name
    return where.name if isinstance(where, Table) else f"a {type(where).__module__.partition('.')[0]} frame"


def columns(path: TableLike) -> list[str]:
    """Returns the names of the columns, in order. JSON is read to the end, since any object may bring a new key.

    Raises:
        InputError: the file can't be read as a table.
    """
    return open_table(path).columns


def rows(
    path: TableLike,
    start: int = 0,
    *,
    only: Sequence[str] | None = None,
    optional: Sequence[str] = (),
    ids: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """Reads the rows of a table, in order.

    Blank lines between JSON lines are no rows. An empty CSV field is None unless it is quoted.

    Args:
        path: see `open_table`.
        start: number of rows to skip.
        only: the columns to read. All must exist; where a JSON object lacks one, it is None.
        optional: further columns to read, where the table has them.
        ids: columns of ids. In a CSV file whose whole numbers became floats these are the numbers that they were.

    Raises:
        InputError: the file can't be read as a table, has no rows, or lacks a column of `only`.
    """
    return open_table(path).rows(start, only=only, optional=optional, ids=ids)


def sha256(path: str | Path) -> str:
    """Computes the SHA-256 (hex) of the file's bytes; of several files, that of their names and hashes.

    Raises:
        InputError: there is no such file.
    """
    paths = shards.files_of(Path(path).expanduser()).files
    try:
        hashes = [sha256_of_file(shards.existing(each)) for each in paths]
    except OSError as error:
        raise InputError(f"{str(path)!r} can't be read: {error.strerror or error}") from error
    if len(hashes) == 1:
        return hashes[0]
    lines = "".join(f"{digest}  {each.name}\n" for each, digest in zip(paths, hashes, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def pin(path: str | Path) -> dict[str, JSON]:
    """Returns what a lock says of a file: the SHA-256 of its bytes."""
    return {"sha256": sha256(path)}


def pinned(path: str | Path, pins: Mapping[str, JSON]) -> Path:
    """Returns the file, once its bytes are known to be the locked ones; without a lock it is taken as it is.

    Raises:
        InputError: the file is missing, or has changed since it was pinned.
    """
    expected = pins.get("sha256")
    if expected is not None and (found := sha256(path)) != expected:
        raise InputError(
            f"{str(path)!r} has changed since it was locked: SHA-256 is {found}, the lock says {expected}",
            hint="restore the file, or build again without the old lock",
        )
    return Path(path)


def bundled_sample(*, scored: bool = False) -> Path:
    """Returns the prompts and answers that are installed with the package; `scored`: the few with four scored ones."""
    return Path(__file__).parent.parent / "prompts" / ("scored.jsonl" if scored else "sample.jsonl")
