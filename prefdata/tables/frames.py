"""Frames of pandas, Polars and Arrow, and datasets of `datasets`, as tables."""

from __future__ import annotations

from typing import Any

from prefdata.errors import InputError
from prefdata.lazy import pa
from prefdata.tables.arrow_tables import ArrowRows
from prefdata.tables.table import Table

__all__ = ["as_table"]

_VALID = "a path, a frame of pandas, Polars or Arrow, or a `datasets.Dataset`"


def as_table(frame: Any) -> Table:
    """Makes a table of a frame, without a copy where its memory is Arrow's.

    Args:
        frame: a frame of pandas, Polars or Arrow, or a `datasets.Dataset`.

    Raises:
        InputError: it is something else, or holds what Arrow can't.
    """
    package = type(frame).__module__.partition(".")[0]
    name = f"the {type(frame).__name__} of {package}"
    try:
        return ArrowRows(name, _arrow(frame, package))
    except (pa.ArrowException, OverflowError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{name} can't be read: {first}", valid="columns of one type each, no two of one name"
        ) from error


def _arrow(frame: Any, package: str) -> pa.Table:
    kind = type(frame).__name__
    if package == "datasets" and kind == "Dataset":
        # Rows that were picked, shuffled or filtered are picked through indices, which the Arrow data lacks.
        plain = frame.with_format("arrow")
        data = plain[:] if frame._indices is not None else plain.data.table
        # Columns that were renamed or cast have their labels here alone.
        return data.replace_schema_metadata(frame.features.arrow_schema.metadata)
    if package == "datasets":
        raise InputError(
            f"a `datasets.{kind}` is not one table",
            valid=_VALID,
            hint='take one split, for instance dataset["train"]; of a stream: Dataset.from_list(list(stream))',
        )
    if package == "pandas" and kind == "DataFrame":
        # Names of columns need not be texts there.
        return pa.Table.from_pandas(frame.rename(columns=str), preserve_index=False)
    if package == "polars":
        return (frame.collect() if kind == "LazyFrame" else frame).to_arrow()
    if isinstance(frame, pa.Table):
        return frame
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    raise InputError(f"a {type(frame).__name__} is not a table", valid=_VALID)
