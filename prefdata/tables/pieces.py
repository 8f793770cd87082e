"""Pieces of a table of scored answers, each with all rows of its prompts: as they come, or gathered through disk."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from prefdata.lazy import np, pl
from prefdata.tables.schemas import frame_of, table_of
from prefdata.tables.scored_table import ScoredTableFile, with_keys
from prefdata.tables.spill import Spill

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "BUCKET_BYTES",
    "PIECE_BYTES",
    "ScatteredError",
    "SeenKeys",
    "buckets_for",
    "clustered",
    "cuts",
    "detached",
    "gathered",
    "key_buckets",
]

PIECE_BYTES = 48 << 20
"""Decoded bytes read at a time."""
_HEAD_BYTES = 4 << 20
_KEYED = ("prompt_id", "prompt")
BUCKET_BYTES = 512 << 20
"""Decoded bytes of rows that wait together on disk."""
_BUCKETS = 128
"""Most buckets; each has a file open."""


class ScatteredError(Exception):
    """The rows of some prompt are not adjacent; the caller gathers them first."""


def clustered(table: ScoredTableFile) -> Iterator[pl.DataFrame]:
    """Yields the rows as they come, with their keys; the last prompt of a frame waits for the next one.

    Raises:
        ScatteredError: rows of one prompt are not adjacent.
    """
    # Most tables whose rows are apart show it in their first rows, before a whole piece is read and measured.
    for frame in islice(table.frames(_HEAD_BYTES, _KEYED), 1):
        keys = with_keys(frame, has_ids=table.has_ids)["key"].to_numpy()
        SeenKeys().add(keys[_starts(keys)])
    seen = SeenKeys()
    rest: pl.DataFrame | None = None
    for frame in table.frames(PIECE_BYTES):
        rows = with_keys(frame, has_ids=table.has_ids)
        rows = rows if rest is None else pl.concat([rest, rows], rechunk=True)
        keys = rows["key"].to_numpy()
        starts = _starts(keys)
        rest = detached(rows[int(starts[-1]) :])
        if starts[-1]:
            seen.add(keys[starts[:-1]])
            yield rows[: int(starts[-1])]
    if rest is not None:
        seen.add(rest["key"].to_numpy()[:1])
        yield rest
    seen.check()


def detached(rows: pl.DataFrame) -> pl.DataFrame:
    """Copies rows: a slice or a filtered frame would keep the texts of all of its piece in memory."""
    return frame_of(table_of(rows))


def _starts(keys: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Gives where each run of equal keys starts."""
    return np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))


def gathered(table: ScoredTableFile, folder: Path) -> Iterator[pl.DataFrame]:
    """Yields the rows of a table in any order, with their keys, sorted by these.

    Args:
        table: the table; all of it is put on disk.
        folder: for the rows that wait.
    """
    spill = Spill(folder / "rows", buckets_for(table.n_bytes, BUCKET_BYTES))
    for frame in table.frames(PIECE_BYTES):
        rows = with_keys(frame, has_ids=table.has_ids)
        spill.add(rows, key_buckets(rows["key"], spill.count))
    for number in range(spill.count):
        bucket = spill.read(number)
        if bucket is None:
            continue
        order = bucket["key"].arg_sort()
        keys = bucket["key"].gather(order).to_numpy()
        step = max(1, int(PIECE_BYTES * bucket.height // max(1, bucket.estimated_size())))
        for start, end in cuts(keys, step):
            yield bucket[order[start:end]]


def cuts(keys: NDArray[np.uint64], step: int) -> Iterator[tuple[int, int]]:
    """Yields where pieces of `step` rows, or a few more, start and end, none of which parts the rows of a key.

    Args:
        keys: sorted.
        step: at least 1.
    """
    ends = np.append(np.flatnonzero(keys[1:] != keys[:-1]) + 1, len(keys))
    start = 0
    while start < len(keys):
        end = int(ends[np.searchsorted(ends, min(start + step, len(keys)))])
        yield start, end
        start = end


def buckets_for(n_bytes: float, bucket_bytes: int) -> int:
    """Returns how many buckets hold about `bucket_bytes` each."""
    return int(min(_BUCKETS, max(1, n_bytes // bucket_bytes)))


def key_buckets(keys: pl.Series, count: int) -> pl.Series:
    """Returns the bucket of each key, the same for all rows of a prompt."""
    return keys % count


class SeenKeys:
    """Keys of prompts whose rows have come; looks for repeats in each piece, and whenever their number has doubled."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.uint64]] = []
        self._count, self._next = 0, 10_000

    def add(self, keys: NDArray[np.uint64]) -> None:
        """Adds prompts.

        Raises:
            ScatteredError: a key came twice.
        """
        if len(np.unique(keys)) < len(keys):
            raise ScatteredError
        self._parts.append(keys)
        self._count += len(keys)
        if self._count > self._next:
            self.check()
            self._next = 2 * self._count

    def check(self) -> None:
        """Looks for repeats.

        Raises:
            ScatteredError: a key came twice.
        """
        keys = np.sort(np.concatenate(self._parts or [np.zeros(0, np.uint64)]))
        if (keys[1:] == keys[:-1]).any():
            raise ScatteredError
        self._parts = [keys]
