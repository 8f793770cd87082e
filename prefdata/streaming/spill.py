"""Rows on disk while a table is paired: put aside by key, read back in order, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from prefdata.lazy import np, pa, pc, pl
from prefdata.tables.schemas import in_one_chunk, one_chunk

__all__ = [
    "NO_TEXT",
    "TAKEN_BYTES",
    "WAITING_ROWS",
    "Bucket",
    "Buckets",
    "SortedRows",
    "buckets_of",
    "by_bucket",
    "cuts",
    "sizes_of",
    "spans",
]

WAITING_ROWS = 2_000
"""Rows of one bucket whose narrow columns are collected before they are put on disk."""
TAKEN_BYTES = 24 << 20
"""Decoded bytes of rows that are brought into order at a time."""

NO_TEXT = -1
"""What stands for the length of a text that is null."""
_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Bucket:
    """The rows of one bucket, in the order in which they came."""

    narrow: pa.Table
    """Its columns, each in one chunk, but for the texts, of which it has the lengths in bytes."""
    texts: dict[str, pa.Array]
    """Long texts as large_string; they lie in the page cache, not in this process."""
    schema: pa.Schema

    def step(self, n_bytes: int) -> int:
        """How many rows have about so many bytes."""
        size: int = self.narrow.nbytes + sum(texts.nbytes for texts in self.texts.values())
        return max(1, n_bytes * int(self.narrow.num_rows) // max(size, 1))

    def take(self, rows: _Ints) -> pa.Table:
        """Some rows, in the order given."""
        return self.with_texts(self.narrow.take(pa.array(rows)), rows)

    def with_texts(self, narrow: pa.Table, rows: _Ints) -> pa.Table:
        """Some rows, of which all but the texts is at hand."""
        place = pa.array(rows)
        columns = [
            self.texts[name].take(place).cast(pa.string()) if name in self.texts else narrow[name]
            for name in self.schema.names
        ]
        return pa.table(columns, schema=self.schema)


class Buckets:
    """Files of rows, some for each bucket: an Arrow stream of the narrow columns, and the bytes of each text column.

    A long text is written from where it lies and read back once, into its place.
    """

    def __init__(self, folder: Path, count: int, schema: pa.Schema, texts: Sequence[str]) -> None:
        self._folder, self.schema = folder, schema
        self._texts = [name for name in texts if schema.field(name).type == pa.string()]
        lengths = [pa.field(name, pa.int64()) if name in self._texts else schema.field(name) for name in schema.names]
        self.narrow = pa.schema(lengths)
        self.count = count
        self._waiting: dict[int, list[pa.Table]] = {}
        self._streams: dict[int, tuple[Any, Any]] = {}
        self._files: dict[tuple[int, str], Any] = {}

    def write(self, bucket: int, table: pa.Table) -> None:
        """Appends rows to one bucket; each column of texts is in one chunk."""
        columns = []
        for name in self.schema.names:
            column = table[name]
            if name in self._texts:
                texts = column.chunk(0)
                self.write_texts(bucket, name, texts)
                columns.append(pa.array(sizes_of(texts)))
            else:
                columns.append(column)
        self.write_narrow(bucket, pa.table(columns, schema=self.narrow))

    def write_texts(self, bucket: int, name: str, texts: pa.Array) -> None:
        """Appends the bytes of some texts to one bucket; `write_narrow` of their rows has to follow, in their order."""
        if (bucket, name) not in self._files:
            self._files[bucket, name] = pa.OSFile(str(self._path(bucket, name)), "wb")
        _, offsets, data = texts.buffers()
        if data is not None and len(texts):
            ends = np.frombuffer(offsets, np.int32)
            start, end = int(ends[texts.offset]), int(ends[texts.offset + len(texts)])
            self._files[bucket, name].write(data.slice(start, end - start))

    def write_narrow(self, bucket: int, table: pa.Table) -> None:
        """Appends rows by the schema `narrow`, which has the bytes of each text in place of it."""
        waiting = self._waiting.setdefault(bucket, [])
        waiting.append(table)
        if sum(part.num_rows for part in waiting) >= WAITING_ROWS:
            self._flush(bucket)

    def close(self) -> None:
        """Ends writing."""
        for bucket in self._waiting:
            self._flush(bucket)
        for file, stream in self._streams.values():
            stream.close()
            file.close()
        for file in self._files.values():
            file.close()

    def read(self) -> Iterator[Bucket]:
        """The buckets that have rows, in order; each is deleted once the next one is asked for."""
        for bucket in sorted(self._streams):
            yield self.bucket(bucket)
            for name in ("", *self._texts):
                self._path(bucket, name).unlink(missing_ok=True)

    def bucket(self, number: int) -> Bucket:
        """One bucket, after `close`."""
        narrow = self.narrow_of(number)
        texts = {name: self._mapped(number, name, narrow[name]) for name in self._texts}
        return Bucket(narrow, texts, self.schema)

    def narrow_of(self, number: int) -> pa.Table:
        """The narrow columns of one bucket, after `close`, each in one chunk."""
        if number not in self._streams:
            return self.narrow.empty_table().combine_chunks()
        with pa.memory_map(str(self._path(number))) as file:
            return pa.ipc.open_stream(file).read_all().combine_chunks()

    def _flush(self, bucket: int) -> None:
        waiting = self._waiting[bucket]
        if not waiting:
            return
        if bucket not in self._streams:
            file = pa.OSFile(str(self._path(bucket)), "wb")
            self._streams[bucket] = (file, pa.ipc.new_stream(file, self.narrow))
        self._streams[bucket][1].write_table(pa.concat_tables(waiting).combine_chunks())
        self._waiting[bucket] = []

    def _mapped(self, bucket: int, name: str, lengths: pa.ChunkedArray) -> pa.Array:
        sizes = lengths.to_numpy()
        null = sizes == NO_TEXT
        ends = np.zeros(len(sizes) + 1, np.int64)
        np.cumsum(np.where(null, 0, sizes), out=ends[1:])
        valid = pa.array(~null).buffers()[1] if null.any() else None
        path = self._path(bucket, name)
        data = pa.py_buffer(b"")
        if ends[-1]:
            with pa.memory_map(str(path)) as file:
                data = file.read_buffer()
        return pa.Array.from_buffers(pa.large_string(), len(sizes), [valid, pa.py_buffer(ends), data])

    def _path(self, bucket: int, name: str = "") -> Path:
        return self._folder / f"{bucket:05d}{name and f'.{name}'}"


class SortedRows:
    """Takes rows in any order and gives them back by `prompt_id`; rows of one prompt keep their order."""

    def __init__(self, folder: Path, edges: Sequence[str], schema: pa.Schema, texts: Sequence[str]) -> None:
        folder.mkdir(parents=True)
        self.schema = schema
        self._edges = pl.Series(list(edges), dtype=pl.String)
        self._buckets = Buckets(folder, len(self._edges) + 1, schema, texts)
        self.narrow = self._buckets.narrow

    def add(self, table: pa.Table) -> None:
        """Takes rows, each column in one chunk; all rows of a prompt come in one call."""
        order, ends = self.order(one_chunk(table["prompt_id"]))
        if order is not None:
            table = pa.table([one_chunk(column).take(pa.array(order)) for column in table.columns], schema=table.schema)
        for bucket, start, end in spans(ends):
            self._buckets.write(bucket, table.slice(start, end - start))

    def order(self, ids: pa.Array) -> tuple[_Ints | None, _Ints]:
        """The order in which rows of some prompts are to be added, None for as they are, and where each bucket ends."""
        if not len(self._edges):
            return None, np.array([len(ids)])
        return by_bucket(buckets_of(self._edges, ids), len(self._edges) + 1)

    def add_texts(self, texts: Mapping[str, pa.Array], ends: _Ints) -> dict[str, _Ints]:
        """Takes the texts of rows that are in `order`, and gives the bytes of each; columns left out have none."""
        for bucket, start, end in spans(ends):
            for name, column in texts.items():
                self._buckets.write_texts(bucket, name, column.slice(start, end - start))
        return {name: sizes_of(column) for name, column in texts.items()}

    def add_narrow(self, table: pa.Table) -> None:
        """Takes all else of the rows whose texts came since the last call: schema `narrow`, in the same order."""
        order, ends = self.order(one_chunk(table["prompt_id"]))
        if order is not None:
            table = table.take(pa.array(order))
        for bucket, start, end in spans(ends):
            self._buckets.write_narrow(bucket, table.slice(start, end - start))

    def buckets(self) -> Iterator[tuple[Bucket, _Ints]]:
        """The buckets by their ids, each with the order of its rows; adding ends here."""
        self._buckets.close()
        for bucket in self._buckets.read():
            yield bucket, pc.sort_indices(bucket.narrow["prompt_id"]).to_numpy().astype(np.int64)

    def tables(self, rows: int) -> Iterator[pa.Table]:
        """All rows, sorted, in tables of at most so many rows and of bounded size."""
        done = 0
        for bucket, order in self.buckets():
            narrow = in_one_chunk(bucket.narrow.take(pa.array(order)))
            for start, end in cuts(len(order), min(rows, bucket.step(TAKEN_BYTES)), rows, done):
                yield bucket.with_texts(narrow.slice(start, end - start), order[start:end])
            done += len(order)


def buckets_of(edges: pl.Series, ids: pa.Array) -> _Ints:
    """The bucket of each id; `edges` are the least ids of all buckets but the first."""
    return edges.search_sorted(pl.Series(pl.from_arrow(ids)), side="right").to_numpy().astype(np.int64)


def by_bucket(bucket: _Ints, count: int) -> tuple[_Ints, _Ints]:
    """The order of rows by their buckets, and where each bucket ends; rows of one bucket keep their order."""
    return np.argsort(bucket, kind="stable"), np.cumsum(np.bincount(bucket, minlength=count))


def cuts(count: int, step: int, group: int, done: int) -> Iterator[tuple[int, int]]:
    """Where to cut rows into tables, so that few tables cross the ends of the groups of rows that are written.

    Args:
        count: of the rows.
        step: at most so many in a table.
        group: rows in a group.
        done: rows before these.
    """
    start = 0
    while start < count:
        end = min(start + step, start + group - (done + start) % group, count)
        yield start, end
        start = end


def spans(ends: _Ints) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each bucket that has rows."""
    for bucket, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
        if end > start:
            yield bucket, start, end


def sizes_of(texts: pa.Array) -> _Ints:
    """Bytes of each text; `NO_TEXT` where there is none."""
    if texts.null_count:
        sizes = pc.binary_length(texts).cast(pa.int64()).fill_null(NO_TEXT)
        return np.asarray(sizes.to_numpy(zero_copy_only=False))
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return np.diff(offsets).astype(np.int64)
