"""Makes frames of the tables of others, whose cells may be of any kind: within a column, and from file to file.

A column of one kind has its type. A column of several kinds (1, "x", [1]) is one of texts, with JSON for what is none:
no cell is lost, and the order of rows changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

from prefdata.errors import NoRowsError
from prefdata.lazy import pa, pl
from prefdata.tables import files
from prefdata.tables.plain_arrow import plain_batch
from prefdata.tables.schemas import frame_of
from prefdata.tables.table import Table

_ROWS = 10_000
"""Rows that are read at a time."""
_NUMBER = r"^[+-]?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$"
"""Texts of numbers; 007 is a name."""
_TRUTHS = ("true", "false")
_ERRORS = (OverflowError, TypeError, ValueError)
"""What Polars raises of values that no column holds, besides its own errors."""


def frame_of_part(part: Path | Table) -> pl.DataFrame:
    """Reads a file or a frame.

    Raises:
        InputError: it can't be read as a table.
    """
    table = files.open_table(part)
    # A split of a dataset may be empty; a frame that is has been given by mistake.
    if table.schema is None:
        try:
            return _of_rows(table)
        except NoRowsError:
            if not isinstance(part, Path):
                raise
            return pl.DataFrame()
    empty = isinstance(part, Path) and not table.n_rows
    nothing = pa.RecordBatch.from_pylist([], schema=table.schema)
    batches = [plain_batch(table.name, nothing)] if empty else table.batches(table.columns, _ROWS)
    return frame_of(pa.Table.from_batches(batches))


def _of_rows(table: Table) -> pl.DataFrame:
    names = table.columns
    ids = [name for name in ("prompt_id",) if name in names]
    rows = list(table.rows(only=(), optional=names, ids=ids))
    return pl.DataFrame([_column(name, [row.get(name) for row in rows]) for name in names])


def joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Puts frames one below the other, whose columns may differ; what one lacks is missing."""
    names = dict.fromkeys(name for frame in frames for name in frame.columns)
    return pl.DataFrame([_joined_column(name, frames) for name in names])


def typed(frame: pl.DataFrame, leave: Collection[str]) -> pl.DataFrame:
    """Gives columns of separated values, all of whose cells are numbers or truth values, the type that they lack.

    Args:
        frame: the table.
        leave: columns that are texts whatever they hold.
    """
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String and name not in leave]
    return frame.with_columns(_typed(frame[name]) for name in texts)


def _typed(texts: pl.Series) -> pl.Series:
    there = texts.replace("", None)
    if not there.count():
        return texts
    if there.str.contains(_NUMBER).all():
        whole = there.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == there.null_count() else there.cast(pl.Float64)
    truths = there.str.to_lowercase()
    return truths == "true" if truths.is_in(_TRUTHS).all() else texts


def _joined_column(name: str, frames: Sequence[pl.DataFrame]) -> pl.Series:
    parts = [frame[name] if name in frame.columns else pl.Series(name, [None] * frame.height) for frame in frames]
    types = [part.dtype for part in parts if part.dtype != pl.Null]
    if all(dtype == types[0] for dtype in types):
        return pl.concat([part.cast(types[0]) if types else part for part in parts])
    return _column(name, [value for part in parts for value in part.to_list()])


def _column(name: str, values: list[Any]) -> pl.Series:
    if not _mixed(values):
        try:
            return pl.DataFrame([{name: value} for value in values], infer_schema_length=None, orient="row")[name]
        except (pl.exceptions.PolarsError, *_ERRORS):
            pass
    return pl.Series(name, [_text(value) for value in values], pl.String)


def _mixed(values: Iterable[Any]) -> bool:
    """Finds out whether values are of several kinds; Polars would take one for another, or lose it."""
    there = [value for value in values if value is not None]
    if len(kinds := {_kind(value) for value in there}) > 1:
        return True
    if kinds == {list}:
        return _mixed(chain.from_iterable(there))
    if kinds == {dict}:
        keys = {key for value in there for key in value}
        return any(_mixed(value.get(key) for value in there) for key in keys)
    return False


def _kind(value: Any) -> type:
    return float if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else type(value)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    # Files of JSON have NaN too.
    return json.dumps(value, ensure_ascii=False, allow_nan=True, default=str)
