"""Arrow data of the less common types, as the common ones that hold the same."""

from __future__ import annotations

from prefdata.errors import InputError, first_line
from prefdata.lazy import pa, pc

__all__ = ["plain_batch"]


def plain_batch(table: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Gives the columns as texts, numbers, lists and structs that every reader knows.

    List views and lists of one length become lists, dictionaries and runs the values that they stand for, extension
    types what they are stored as, and decimals of 256 bits those of 128 bits where they fit, and texts otherwise.

    Args:
        table: how messages call the table.
        batch: some rows of the columns that are read.

    Raises:
        InputError: a column is of a type that holds none of these.
    """
    columns = [_plain(table, name, batch.column(at)) for at, name in enumerate(batch.schema.names)]
    return pa.record_batch(columns, names=batch.schema.names)


def _plain(table: str, name: str, column: pa.Array) -> pa.Array:
    if column.offset:
        # A part of an array shares its buffers, and Arrow takes no lists apart whose buffers begin earlier.
        column = pa.concat_arrays([column])
    try:
        kind = _plain_type(column.type)
        if kind.equals(column.type):
            return column
        if pa.types.is_run_end_encoded(column.type):
            return _plain(table, name, pc.run_end_decode(column))
        if isinstance(column.type, pa.BaseExtensionType):
            return _plain(table, name, column.storage)
        if _has_views(column.type):
            # Arrow 26 casts a list view to a list whose offsets are too short.
            return pa.array(column.to_pylist(), kind)
        return _cast(column, kind)
    # Arrow's bindings raise Python's own errors, too, for types that they don't know.
    except (pa.ArrowException, NotImplementedError, TypeError) as error:
        raise InputError(
            f"{table}: the column {name!r} is of the Arrow type {column.type}, which can't be read",
            valid="texts, numbers, lists and structs",
            hint=f"write the column as one of these, or name another one: --columns ROLE=NAME ({first_line(error)})",
        ) from error


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        if not pa.types.is_decimal256(column.type):
            raise
        return column.cast(pa.string())


def _has_views(kind: pa.DataType) -> bool:
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return True
    return any(_has_views(kind.field(at).type) for at in range(kind.num_fields))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Returns the common type for a type.

    Raises:
        TypeError: there is none.
    """
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    if types.is_run_end_encoded(kind) or types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_list(kind) or types.is_list_view(kind) or types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(_plain_field(kind.value_field))
    if types.is_struct(kind):
        return pa.struct([_plain_field(kind.field(at)) for at in range(kind.num_fields)])
    if types.is_decimal256(kind):
        return pa.decimal128(38, kind.scale)
    if types.is_string_view(kind):
        return pa.string()
    if types.is_binary_view(kind):
        return pa.binary()
    if types.is_union(kind) or types.is_interval(kind):
        raise TypeError("no text, number, list or struct holds it")
    return kind


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain_type(field.type))
