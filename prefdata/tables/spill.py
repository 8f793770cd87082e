"""Rows that wait on disk, in buckets, until they are read back a bucket at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefdata.lazy import pa, pl
from prefdata.tables.schemas import table_of

__all__ = ["Spill", "edges_of", "range_buckets"]

_WAITING_BYTES = 16 << 20
"""Bytes of all buckets that are collected before they are written."""


class Spill:
    """Frames of one schema, put into buckets.

    Args:
        folder: is made; the caller deletes it.
        count: number of buckets; each has a file open.
    """

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.count = count
        self._writers: dict[int, Any] = {}
        self._waiting: dict[int, list[pa.Table]] = {}
        self._schema: pa.Schema | None = None

    def add(self, frame: pl.DataFrame, buckets: pl.Series) -> None:
        """Puts rows aside.

        Args:
            frame: has the columns and types of every other frame.
            buckets: the bucket of each row.
        """
        if self.count == 1:
            self._put(0, frame)
            return
        for (number, *_), rows in frame.with_columns(_bucket=buckets).partition_by("_bucket", as_dict=True).items():
            self._put(int(number), rows.drop("_bucket"))

    def read(self, number: int) -> pl.DataFrame | None:
        """Returns the rows of a bucket in the order in which they came; None where there are none. Ends the writing."""
        for bucket in [*self._waiting]:
            self._write(bucket)
        for writer in self._writers.values():
            writer.close()
        self._writers = {}
        path = self._path(number)
        if not path.exists():
            return None
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
            # In the chunks of the file, since whoever reads a bucket sorts or joins it, which makes one chunk of them.
            frame = pl.from_arrow(reader.read_all())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.arrow"

    def _put(self, number: int, frame: pl.DataFrame) -> None:
        table = table_of(frame)
        self._schema = self._schema or table.schema
        self._waiting.setdefault(number, []).append(table.cast(self._schema))
        if sum(part.nbytes for part in self._waiting[number]) > _WAITING_BYTES // self.count:
            self._write(number)

    def _write(self, number: int) -> None:
        if number not in self._writers:
            self._writers[number] = pa.ipc.new_stream(str(self._path(number)), self._schema)
        for table in self._waiting.pop(number, []):
            self._writers[number].write_table(table)


def edges_of(ids: list[str], count: int) -> list[str]:
    """Returns at most count - 1 ids that cut all ids into about equal parts.

    Args:
        ids: a sample of all ids; empty for ids that are hexadecimal digests.
        count: number of parts.
    """
    if not ids:
        return [f"{number * 16**8 // count:08x}" for number in range(1, count)]
    ids = sorted(ids)
    return sorted({ids[number * len(ids) // count] for number in range(1, count)})


def range_buckets(ids: pl.Series, edges: list[str]) -> pl.Series:
    """Returns the number of the part that each id falls into."""
    if not edges:
        return pl.repeat(0, len(ids), dtype=pl.UInt32, eager=True)
    return pl.Series("edges", edges).search_sorted(ids, side="right").cast(pl.UInt32)
