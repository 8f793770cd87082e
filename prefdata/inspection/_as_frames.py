"""Turns frames of Polars, which tables are read as, into those of other packages, with types that fit the columns."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal, TypeAlias, get_args

from prefdata.errors import InputError, MissingExtraError
from prefdata.lazy import pa, pl

FrameKind: TypeAlias = Literal["pandas", "polars", "arrow", "datasets"]
"""Kinds of frames."""

_NAMES = ("split", "stage", "reason", "unscored", "undecided", "finish_reason", "change", "picked")
_BEGINNINGS = ("source", "model", "decided", "reason")
_BATCH = 10_000


def check_kind(kind: str) -> None:
    """Checks the name of a kind of frames.

    Raises:
        InputError: there is no such kind.
    """
    if kind not in get_args(FrameKind):
        raise InputError(f"{kind!r} is not a kind of frames", valid=", ".join(get_args(FrameKind)))


def as_frame(frame: pl.DataFrame, kind: FrameKind) -> Any:
    """Gives a frame of another kind; texts of which a few occur again and again (sources, reasons) are categories.

    In pandas whole numbers and booleans are of the nullable types, texts of the type for texts, lists and structs of
    Arrow's types, so that no column is of the type `object`; a missing number with a fraction is NaN there.

    Raises:
        MissingExtraError: pandas or `datasets` is not installed.
    """
    if kind == "datasets":
        return _dataset(frame)
    typed = frame.with_columns(
        pl.col(name).cast(pl.Categorical) for name, dtype in frame.schema.items() if dtype == pl.String and _few(name)
    )
    if kind == "polars":
        return typed
    table = typed.to_arrow(compat_level=pl.CompatLevel.oldest())
    return table if kind == "arrow" else _pandas(table)


def _few(name: str) -> bool:
    return name in _NAMES or name in _BEGINNINGS or name.startswith(tuple(f"{begin}_" for begin in _BEGINNINGS))


def _pandas(table: pa.Table) -> Any:
    if importlib.util.find_spec("pandas") is None:
        raise MissingExtraError(
            "frames of pandas need the package 'pandas', which is not installed",
            hint='pip install pandas, or: load(...).to("polars")',
        )
    import pandas as pd

    def dtype(kind: pa.DataType) -> Any:
        if pa.types.is_integer(kind):
            return pd.api.types.pandas_dtype(str(kind).replace("uint", "UInt").replace("int", "Int"))
        if pa.types.is_boolean(kind):
            return pd.BooleanDtype()
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return pd.StringDtype("pyarrow")
        return pd.ArrowDtype(kind) if pa.types.is_nested(kind) or pa.types.is_null(kind) else None

    return table.to_pandas(types_mapper=dtype)


def _dataset(frame: pl.DataFrame) -> Any:
    if importlib.util.find_spec("datasets") is None:
        raise MissingExtraError.of("a `datasets.Dataset`", "datasets", "hub")
    import datasets

    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    schema = pa.schema([(column.name, _short(column.type)) for column in table.schema])
    # Short offsets hold 2 GB of text, in each piece of a column.
    pieces = pa.Table.from_batches(table.to_batches(_BATCH), table.schema)
    return datasets.Dataset(pieces.cast(schema))


def _short(kind: pa.DataType) -> pa.DataType:
    """Gives the type with the short offsets that other datasets of the Hub have."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(_short(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(kind.field(at).name, _short(kind.field(at).type)) for at in range(kind.num_fields)])
    return kind
