"""Rows that wait on disk, in buckets, until they are read back a bucket at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefdata.lazy import np, pa, pl
from prefdata.tables.schemas import table_of

__all__ = ["Spill", "edges_of", "range_buckets"]

_WAITING_BYTES = 8 << 20
"""Bytes of all buckets that are copied at a time, and collected before they are written."""


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
        self._waiting: list[tuple[int, pa.Table]] = []
        self._waiting_bytes = 0
        self._schema: pa.Schema | None = None

    def add(self, frame: pl.DataFrame, buckets: pl.Series) -> None:
        """Puts rows aside.

        Args:
            frame: has the columns and types of every other frame.
            buckets: the bucket of each row.
        """
        step = max(1, frame.height * _WAITING_BYTES // max(1, int(frame.estimated_size())))
        for start in range(0, frame.height, step):
            self._add(frame[start : start + step], buckets[start : start + step])

    def _add(self, frame: pl.DataFrame, buckets: pl.Series) -> None:
        # All rows are copied once, in the order of their buckets, of which each is a slice then.
        numbers = buckets.to_numpy().astype(np.uint16)
        table = table_of(frame, pl.Series(np.argsort(numbers, kind="stable")))
        self._schema = self._schema or table.schema
        table = table.cast(self._schema)
        start = 0
        for number, n_rows in enumerate(np.bincount(numbers).tolist()):
            if n_rows:
                self._waiting.append((number, table.slice(start, n_rows)))
                start += n_rows
        self._waiting_bytes += table.nbytes
        if self._waiting_bytes > _WAITING_BYTES:
            self._write()

    def read(self, number: int) -> pl.DataFrame | None:
        """Returns the rows of a bucket in the order in which they came; None where there are none. Ends the writing."""
        self._write()
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

    def _write(self) -> None:
        for number, rows in self._waiting:
            if number not in self._writers:
                self._writers[number] = pa.ipc.new_stream(str(self._path(number)), self._schema)
            self._writers[number].write_table(rows)
        self._waiting, self._waiting_bytes = [], 0


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
