"""Rows on disk while a table is paired: put aside by key, read back in order, in bounded memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["WAITING_BYTES", "Buckets", "SortedRows"]

WAITING_BYTES = 12 << 20
"""Decoded bytes of rows that are collected before they are put on disk."""


class Buckets:
    """Uncompressed Arrow streams, one a bucket; what is read back lies in the page cache, not in this process."""

    def __init__(self, folder: Path, count: int, schema: pa.Schema) -> None:
        self._folder, self._schema = folder, schema
        self.count = count
        self._writers: dict[int, tuple[Any, Any]] = {}

    def write(self, bucket: int, table: pa.Table) -> None:
        """Appends rows to one bucket."""
        if bucket not in self._writers:
            file = pa.OSFile(str(self._path(bucket)), "wb")
            self._writers[bucket] = (file, pa.ipc.new_stream(file, self._schema))
        self._writers[bucket][1].write_table(table)

    def close(self) -> None:
        """Ends writing."""
        for file, writer in self._writers.values():
            writer.close()
            file.close()

    def read(self) -> Iterator[pa.Table]:
        """The buckets that have rows, in order; each is deleted once the next one is asked for."""
        for bucket in sorted(self._writers):
            with pa.memory_map(str(self._path(bucket))) as file:
                yield pa.ipc.open_stream(file).read_all()
            self._path(bucket).unlink()

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket:05d}.arrow"


class SortedRows:
    """Takes rows in any order and gives them back by `prompt_id`; rows of one prompt keep their order."""

    def __init__(self, folder: Path, edges: Sequence[str], schema: pa.Schema) -> None:
        folder.mkdir()
        self._edges = list(edges)
        self._buckets = Buckets(folder, len(self._edges) + 1, schema)
        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._bytes = 0

    def add(self, table: pa.Table) -> None:
        """Takes rows; all rows of a prompt come in one call."""
        if table.num_rows:
            self._waiting.append(table)
            self._bytes += table.nbytes
            if self._bytes > WAITING_BYTES:
                self._flush()

    def tables(self) -> Iterator[pa.Table]:
        """All rows, sorted, in tables of bounded size."""
        self._flush()
        self._buckets.close()
        for table in self._buckets.read():
            yield _sorted(table)

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = _sorted(pa.concat_tables(self._waiting))
        self._waiting, self._bytes = [], 0
        names = _Names(table["prompt_id"])
        cuts = [0, *(bisect_left(names, edge) for edge in self._edges), table.num_rows]
        for bucket, (start, end) in enumerate(pairwise(cuts)):
            if end > start:
                self._buckets.write(bucket, table.slice(start, end - start))


class _Names(Sequence[str]):
    """A column as a sequence, read only where it is asked."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, place: Any) -> Any:
        return self._column[place].as_py()


def _sorted(table: pa.Table) -> pa.Table:
    order: NDArray[np.uint64] = pc.sort_indices(table["prompt_id"])
    return table.combine_chunks().take(order)
