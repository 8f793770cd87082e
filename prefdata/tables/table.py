"""`Table`: rows to read from their start as often as needed, wherever they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from prefdata.errors import InputError
from prefdata.lazy import pa
from prefdata.spec.quoting import closest_of
from prefdata.tables.ids import are_float_texts

__all__ = ["JoinedTable", "Table", "check_columns"]


def check_columns(where: str, wanted: Iterable[str], have: Collection[str]) -> None:
    """Refuses a table that lacks a column.

    Raises:
        InputError: names the first missing column, and the columns there are.
    """
    for name in wanted:
        if name not in have:
            raise InputError(
                f"{where} has no column {name!r}",
                valid=closest_of(name, have),
                hint="name the column as the table has it",
            )


class Table(ABC):
    """Rows that can be read from their start as often as needed.

    Args:
        name: how messages call the table.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.n_rows: int | None = None
        """The number of rows, where it is known without reading them."""
        self.other_splits: tuple[str, ...] = ()
        """Splits of the same folder or dataset that are not read, where they are known."""
        self.float_ids: dict[str, bool] = {}
        """Column of ids → whether its whole numbers became floats, once that is known."""

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """The names of the columns, in order.

        Raises:
            InputError: the table can't be read.
        """

    @property
    def schema(self) -> pa.Schema | None:
        """The types of the columns as Arrow has them; None for text, whose cells may be of any type."""
        return None

    @property
    def lacks_types(self) -> bool:
        """Whether all cells are texts, whatever they were, as separated values are."""
        return False

    def has_rows(self) -> bool:
        """Checks whether there is a row, as far as this is known without reading all."""
        return self.n_rows != 0

    @abstractmethod
    def rows(
        self,
        start: int = 0,
        *,
        only: Sequence[str] | None = None,
        optional: Sequence[str] = (),
        ids: Sequence[str] = (),
    ) -> Iterator[dict[str, Any]]:
        """Reads the rows in order; see `prefdata.tables.files.rows`."""

    def id_texts(self, name: str) -> Iterable[str | None]:
        """Reads a column of ids whose cells are text, whatever they were; nothing where cells have types."""
        return ()

    def has_float_ids(self, name: str) -> bool:
        """Checks whether the whole numbers of a column of ids became floats; reads the column once."""
        if name not in self.float_ids:
            self.float_ids[name] = are_float_texts(self.id_texts(name))
        return self.float_ids[name]

    def narrowed(self, keys: Mapping[str, Collection[str]]) -> Table:
        """Gives the table without what nobody reads of the objects in a column, where its format can leave that out.

        Args:
            keys: column of objects → paths of the keys that are read (`value`, or `grade.value`).
        """
        return self

    def batches(self, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Reads columns as Arrow data of plain types, at most this many rows at a time.

        Raises:
            InputError: the table can't be read, or a column holds what no plain type of Arrow can.
        """
        raise NotImplementedError  # only tables with a `schema` are read so; every subclass with one has it

    @abstractmethod
    def row_bytes(self, names: Sequence[str]) -> float:
        """Estimates the decoded bytes of a row in Arrow data; 0 for text."""

    @abstractmethod
    def n_bytes(self, names: Sequence[str]) -> float:
        """Estimates the decoded bytes of some columns."""


class JoinedTable(Table):
    """Tables one after the other, as a folder of shards has them.

    Args:
        name: how messages call the whole.
        parts: the tables, in order.
    """

    def __init__(self, name: str, parts: Sequence[Table]) -> None:
        super().__init__(name)
        self._parts = parts

    @property
    def columns(self) -> list[str]:
        """Reads the names; see `Table`."""
        return list(dict.fromkeys(name for part in self._parts for name in part.columns))

    @property
    def schema(self) -> pa.Schema | None:
        """The types that all parts have; None where they differ, which are read as values, like text."""
        schemas = [part.schema for part in self._parts]
        first = schemas[0] if None not in schemas else None
        return first if first is not None and all(first.equals(schema) for schema in schemas) else None

    @property
    def lacks_types(self) -> bool:
        """Whether a part lacks them; see `Table`."""
        return any(part.lacks_types for part in self._parts)

    def rows(
        self,
        start: int = 0,
        *,
        only: Sequence[str] | None = None,
        optional: Sequence[str] = (),
        ids: Sequence[str] = (),
    ) -> Iterator[dict[str, Any]]:
        """Reads rows; see `Table`."""
        for part in self._parts:
            check_columns(part.name, only or (), part.columns)
        for name in ids:
            floats = self.has_float_ids(name)
            for part in self._parts:
                part.float_ids[name] = floats
        found = (row for part in self._parts for row in part.rows(only=only, optional=optional, ids=ids))
        return islice(found, start, None)

    def id_texts(self, name: str) -> Iterable[str | None]:
        """Reads a column of all parts; see `Table`."""
        return (text for part in self._parts for text in part.id_texts(name))

    def narrowed(self, keys: Mapping[str, Collection[str]]) -> Table:
        """Narrows all parts; see `Table`."""
        return JoinedTable(self.name, [part.narrowed(keys) for part in self._parts])

    def batches(self, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Reads Arrow data; see `Table`."""
        for part in self._parts:
            yield from part.batches(names, rows)

    def row_bytes(self, names: Sequence[str]) -> float:
        """Estimates a row; see `Table`."""
        return max(part.row_bytes(names) for part in self._parts)

    def n_bytes(self, names: Sequence[str]) -> float:
        """Estimates columns; see `Table`."""
        return sum(part.n_bytes(names) for part in self._parts)
