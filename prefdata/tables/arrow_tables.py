"""Tables of Arrow data: Parquet files, files of Arrow's own formats, and frames. What is read is of plain types."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

from prefdata.errors import InputError, NoRowsError, first_line
from prefdata.lazy import pa
from prefdata.spec.quoting import quoted
from prefdata.tables.labels import labels_of, named_batch, named_schema, named_value
from prefdata.tables.parquet import leaves_of_keys, open_parquet, rows_at_once
from prefdata.tables.plain_arrow import plain_batch
from prefdata.tables.table import Table, check_columns

__all__ = ["ArrowFile", "ArrowRows", "ParquetFile"]

_BATCH = 256
_HEAD = 64


class _ArrowTable(Table):
    """A table of Arrow data: a subclass says where its batches come from."""

    n_rows: int

    def __init__(self, name: str, schema: pa.Schema, n_rows: int) -> None:
        super().__init__(name)
        self._labels = labels_of(schema)
        self._schema = named_schema(schema, self._labels)
        self.n_rows = n_rows
        self._row_bytes: dict[str, float] = {}

    @property
    def schema(self) -> pa.Schema:
        """The types of the columns; labels are texts."""
        return self._schema

    @abstractmethod
    def _read(self, names: Sequence[str], rows: int, start: int = 0) -> Iterator[pa.RecordBatch]:
        """Yields batches from the row `start` on, of any types."""

    @property
    def columns(self) -> list[str]:
        """Reads the names; see `Table`."""
        return list(dict.fromkeys(self.schema.names))

    def rows(
        self,
        start: int = 0,
        *,
        only: Sequence[str] | None = None,
        optional: Sequence[str] = (),
        ids: Sequence[str] = (),
    ) -> Iterator[dict[str, Any]]:
        """Reads rows; see `Table`."""
        have = self.schema.names
        names = have if only is None else [*only, *(name for name in have if name in optional)]
        self._check(names)
        return self._dicts(list(dict.fromkeys(names)), start)

    def _check(self, names: Sequence[str]) -> None:
        check_columns(self.name, names, self.schema.names)
        for name, count in Counter(self.schema.names).items():
            if count > 1 and name in names:
                raise InputError(f"{self.name}: two columns are named {quoted(name)}")
        if self.n_rows == 0:
            raise NoRowsError(f"{self.name} has no rows")

    def _dicts(self, names: list[str], start: int) -> Iterator[dict[str, Any]]:
        labels = {name: self._labels[name] for name in names if name in self._labels}
        for batch in self._read(names, _BATCH, start):
            for row in batch.to_pylist():
                for name, of_name in labels.items():
                    row[name] = named_value(row[name], of_name)
                yield row

    def batches(self, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Reads Arrow data; see `Table`."""
        self._check(names)
        for batch in self._read(names, rows):
            if batch.num_rows:
                yield named_batch(plain_batch(self.name, batch), self._labels)

    def row_bytes(self, names: Sequence[str]) -> float:
        """Estimates a row; see `Table`."""
        if missing := [name for name in names if name not in self._row_bytes]:
            head = next(self.batches(missing, _HEAD))
            self._row_bytes |= {name: head.column(name).nbytes / head.num_rows for name in missing}
        return sum(self._row_bytes[name] for name in names)

    def n_bytes(self, names: Sequence[str]) -> float:
        """Estimates columns; see `Table`."""
        return self.n_rows * self.row_bytes(names)


class ParquetFile(_ArrowTable):
    """A Parquet file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_parquet(path) as file:
            super().__init__(repr(str(path)), file.schema_arrow, file.metadata.num_rows)
        self._leaves: dict[str, list[str]] = {}
        """Column of which parts are read → their paths in the file."""

    def narrowed(self, keys: Mapping[str, Collection[str]]) -> Table:
        """Leaves the columns of other keys undecoded; see `Table`."""
        if not keys:
            return self
        with open_parquet(self._path) as file:
            leaves = leaves_of_keys(file, keys)
        narrow = copy(self)
        narrow._leaves, narrow._row_bytes = leaves, {}
        return narrow

    def _read(self, names: Sequence[str], rows: int, start: int = 0) -> Iterator[pa.RecordBatch]:
        with open_parquet(self._path) as file:
            groups, skip = list(range(file.metadata.num_row_groups)), start
            while groups and file.metadata.row_group(groups[0]).num_rows <= skip:
                skip -= file.metadata.row_group(groups.pop(0)).num_rows
            if not groups:
                return
            size = rows_at_once(self._path, rows)
            read = [leaf for name in names for leaf in self._leaves.get(name, [name])]
            for batch in file.iter_batches(size, row_groups=groups, columns=read, use_threads=False):
                if skip < batch.num_rows:
                    yield batch.slice(skip)
                skip = max(0, skip - batch.num_rows)


class ArrowRows(_ArrowTable):
    """Arrow data that is at hand.

    Args:
        name: how messages call it.
        data: the table.
        unreadable: column → why its values are not in the table.
    """

    def __init__(self, name: str, data: pa.Table, unreadable: Mapping[str, str] | None = None) -> None:
        super().__init__(name, data.schema, data.num_rows)
        self._data, self._unreadable = data, unreadable or {}

    def _check(self, names: Sequence[str]) -> None:
        super()._check(names)
        for name in names:
            if name in self._unreadable:
                raise InputError(
                    f"{self.name}: the column {name!r} can't be read: {self._unreadable[name]}",
                    valid="texts, numbers, lists and objects; values of one type",
                    hint="change the column, or name another one",
                )

    def _read(self, names: Sequence[str], rows: int, start: int = 0) -> Iterator[pa.RecordBatch]:
        yield from self._data.select(list(names)).slice(start).to_batches(rows)


class ArrowFile(_ArrowTable):
    """A file of Arrow's own formats, as `save_to_disk` writes them; it is not read into memory.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._opened() as (schema, batches):
            super().__init__(repr(str(path)), schema, sum(batch.num_rows for batch in batches))

    def _read(self, names: Sequence[str], rows: int, start: int = 0) -> Iterator[pa.RecordBatch]:
        with self._opened() as (_, batches):
            for batch in batches:
                part = batch.select(list(names)).slice(start)
                start = max(0, start - batch.num_rows)
                for at in range(0, part.num_rows, rows):
                    yield part.slice(at, rows)

    @contextmanager
    def _opened(self) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        try:
            with pa.memory_map(str(self._path)) as file:
                if file.read(6) == b"ARROW1":
                    reader = pa.ipc.open_file(file)
                    yield reader.schema, map(reader.get_batch, range(reader.num_record_batches))
                else:
                    file.seek(0)
                    stream = pa.ipc.open_stream(file)
                    yield stream.schema, iter(stream)
        except (pa.ArrowException, OSError, ValueError) as error:
            first = first_line(error)
            raise InputError(
                f"{str(self._path)!r} is not a whole Arrow file: {first}", hint="copy or download the file again"
            ) from error
