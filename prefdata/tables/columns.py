"""The columns of a table, the keys of the objects in them, and what their cells hold.

A path is a column, or a key of the objects in one: `completions.response` is the value of `response` in each object of
`completions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prefdata.errors import InputError, closest
from prefdata.lazy import pa
from prefdata.tables.cells import parse_truth
from prefdata.tables.documents import parse_json
from prefdata.tables.table import Table
from prefdata.tables.written import is_written

__all__ = ["Columns", "path_of", "value_at"]


def path_of(path: str, columns: Sequence[str]) -> tuple[str, list[str]]:
    """Splits a path into its column and the keys within; a column of the whole name comes first."""
    if path in columns or "." not in path:
        return path, []
    column, _, keys = path.partition(".")
    return column, keys.split(".")


def value_at(value: Any, keys: Sequence[str]) -> Any:
    """Returns what stands under the keys: of an object its value, of a list those of its objects; otherwise None."""
    if not keys:
        return value
    if isinstance(value, list):
        return [value_at(item, keys) for item in value]
    return value_at(value.get(keys[0]), keys[1:]) if isinstance(value, dict) else None


class Columns:
    """The columns of a table, and the keys of the objects in them.

    Cells are looked at as far as it takes: whether a key is there must not depend on the order of the rows.

    Args:
        table: the table.
    """

    def __init__(self, table: Table) -> None:
        self.table, self.names = table, table.columns
        self._keys: dict[str, set[str]] = {}

    def has(self, path: str) -> bool:
        """Checks whether there is such a column, or an object in one with such a key."""
        column, keys = path_of(path, self.names)
        return column in self.names and (not keys or ".".join(keys) in self.keys(column))

    def keys(self, column: str) -> set[str]:
        """Returns the paths of the keys in the objects of a column: those of its type, or of all cells without one."""
        if column not in self._keys:
            schema = self.table.schema
            kind = None if schema is None else schema.field(column).type
            if kind is None or pa.types.is_string(kind) or pa.types.is_large_string(kind):
                self._keys[column] = {path for cell in self._cells(column) for path in _paths(cell)}
            else:
                self._keys[column] = {*_paths_of_type(kind)}
        return self._keys[column]

    def first(self, column: str) -> Any:
        """Returns the first cell that holds something."""
        return next((cell for cell in self._cells(column) if cell), None)

    def holds(self, path: str) -> bool:
        """Checks whether a value stands under a path, in any row."""
        return self.has(path) and next(self._values(path), None) is not None

    def has_truths(self, path: str, *, or_written: bool = False) -> bool:
        """Checks whether a path leads to truth values, and to nothing else.

        Args:
            path: of a column, or of a key in its objects.
            or_written: take lists that Python wrote as well, which are refused when they are read.
        """
        some = False
        for value in self._values(path):
            if parse_truth(value) is None and not (or_written and is_written(value)):
                return False
            some = True
        return some

    def _values(self, path: str) -> Iterator[Any]:
        column, keys = path_of(path, self.names)
        return (value for cell in self._cells(column) for value in _leaves(value_at(cell, keys)))

    def _cells(self, column: str) -> Iterator[Any]:
        return (_parsed(row[column]) for row in self.table.rows(only=[column]))

    def check(self, role: str, path: str) -> None:
        """Refuses a path that leads nowhere.

        Args:
            role: what it was named for.
            path: a column, or a key of the objects in one.

        Raises:
            InputError: there is no such column or key.
        """
        if self.has(path):
            return
        column, keys = path_of(path, self.names)
        if column in self.names:
            raise InputError(
                f"{self.table.name}: no object in the column {column!r} has the key {'.'.join(keys)!r}",
                valid=closest(".".join(keys), sorted(self.keys(column))) if self.keys(column) else None,
                hint=f"name another one: --columns {role}=COLUMN.KEY",
            )
        raise InputError(
            f"{self.table.name} has no column {path!r}",
            valid=closest(path, self.names),
            hint="name the column as the table has it",
        )


def _leaves(value: Any) -> Iterator[Any]:
    """Yields the values of a cell, or of the lists in it, that are there."""
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None and value != "":
        yield value


def _parsed(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.lstrip().startswith(("[", "{")):
        return cell
    try:
        return parse_json(cell)
    except (ValueError, RecursionError):
        return cell


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from (f"{key}.{path}" for path in _paths(inner))


def _paths_of_type(kind: pa.DataType) -> Iterator[str]:
    if pa.types.is_struct(kind):
        for inner in kind:
            yield inner.name
            yield from (f"{inner.name}.{path}" for path in _paths_of_type(inner.type))
    elif pa.types.is_nested(kind) and hasattr(kind, "value_type"):
        yield from _paths_of_type(kind.value_type)
