"""Frames of pandas, Polars and Arrow, and datasets of `datasets`, as tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prefdata.errors import InputError
from prefdata.lazy import pa
from prefdata.tables.arrow_tables import ArrowRows
from prefdata.tables.table import Table

__all__ = ["as_table"]

_VALID = "a path, a frame of pandas, Polars or Arrow, or a `datasets.Dataset`"
_ERRORS = (OverflowError, TypeError, ValueError)
"""What Arrow raises of values that no column of it can hold; its own errors are of these types, or `ArrowException`."""


def as_table(frame: Any) -> Table:
    """Makes a table of a frame, without a copy where its memory is Arrow's.

    A column that Arrow can't hold is refused when it is read, so that nobody is bothered by one that is not.

    Args:
        frame: a frame of pandas, Polars or Arrow, or a `datasets.Dataset`.

    Raises:
        InputError: it is something else, or has two columns of one name.
    """
    package = type(frame).__module__.partition(".")[0]
    name = f"the {type(frame).__name__} of {package}"
    try:
        data, unreadable = _arrow(frame, package)
    except (pa.ArrowException, *_ERRORS) as error:
        raise InputError(
            f"{name} can't be read: {_first_line(error)}", valid="columns of one type each, no two of one name"
        ) from error
    return ArrowRows(name, data, unreadable)


def _arrow(frame: Any, package: str) -> tuple[pa.Table, dict[str, str]]:
    """Gives the Arrow data, and the columns that are not in it, with the reasons."""
    kind = type(frame).__name__
    if package == "datasets" and kind == "Dataset":
        # Rows that were picked, shuffled or filtered are picked through indices, which the Arrow data lacks.
        plain = frame.with_format("arrow")
        data = plain[:] if frame._indices is not None else plain.data.table
        # Columns that were renamed or cast have their labels here alone.
        return data.replace_schema_metadata(frame.features.arrow_schema.metadata), {}
    if package == "datasets":
        raise InputError(
            f"a `datasets.{kind}` is not one table",
            valid=_VALID,
            hint='take one split, for instance dataset["train"]; of a stream: Dataset.from_list(list(stream))',
        )
    if package == "pandas" and kind == "DataFrame":
        return _of_pandas(frame)
    if package == "polars" and kind in ("DataFrame", "LazyFrame"):
        return _of_polars(frame.collect() if kind == "LazyFrame" else frame)
    if isinstance(frame, pa.Table):
        return frame, {}
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame]), {}
    raise InputError(f"a {kind} is not a table", valid=_VALID)


def _of_pandas(frame: Any) -> tuple[pa.Table, dict[str, str]]:
    # Values that stand in the index under a name are a column elsewhere.
    if named := [name for name in frame.index.names if name is not None and name not in frame.columns]:
        frame = frame.reset_index(level=named)
    # Names of columns need not be texts there.
    frame = frame.rename(columns=str)
    try:
        data, bad = pa.Table.from_pandas(frame, preserve_index=False), dict[str, str]()
    except (pa.ArrowException, *_ERRORS):
        if not frame.columns.is_unique:
            raise
        data, bad = _by_column((name, pa.Array.from_pandas, frame[name]) for name in frame.columns)
    for field in data.schema:
        # The order of a set means nothing, so its values belong to nothing beside them.
        if pa.types.is_list(field.type) and any(isinstance(cell, set | frozenset) for cell in frame[field.name]):
            bad[field.name] = "it holds sets, which have no order"
    return data, bad


def _of_polars(frame: Any) -> tuple[pa.Table, dict[str, str]]:
    objects = [name for name, kind in frame.schema.items() if str(kind) == "Object"]
    try:
        data, bad = frame.drop(objects).to_arrow(), dict[str, str]()
    except (pa.ArrowException, *_ERRORS):
        columns = frame.drop(objects).iter_columns()
        data, bad = _by_column((column.name, type(column).to_arrow, column) for column in columns)
    return _without(data, bad | dict.fromkeys(objects, "it holds objects of Python"))


def _by_column(columns: Iterable[tuple[str, Any, Any]]) -> tuple[pa.Table, dict[str, str]]:
    read: dict[str, Any] = {}
    bad: dict[str, str] = {}
    for name, convert, column in columns:
        try:
            read[name] = convert(column)
        except (pa.ArrowException, *_ERRORS) as error:
            bad[name] = _first_line(error)
    return _without(pa.table(read), bad)


def _without(data: pa.Table, bad: dict[str, str]) -> tuple[pa.Table, dict[str, str]]:
    """Puts columns without values in place of those that can't be read."""
    for name in bad:
        if name not in data.column_names:
            data = data.append_column(name, pa.nulls(data.num_rows))
    return data, bad


def _first_line(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return (str(said).splitlines() or [type(error).__name__])[0]
