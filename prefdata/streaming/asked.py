"""The different prompts of a long table, numbered as they come and put aside once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from numpy.typing import NDArray

from prefdata.lazy import np, pa, pl
from prefdata.streaming.digest import text_words
from prefdata.streaming.pieces import Piece, identities
from prefdata.streaming.source import hashes
from prefdata.streaming.spill import Bucket, Buckets, buckets_of, by_bucket, sizes_of, spans

__all__ = ["AskedPrompts", "Confused"]

_Ints = NDArray[np.int64]
_Words = NDArray[np.uint64]
_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("prompt_id", pa.string()),
        ("word", pa.uint64()),
        ("plain", pa.bool_()),
        ("prompt_text", pa.string()),
    ]
)
_ODD = np.uint64(0x9E3779B97F4A7C15)


class Confused(Exception):  # noqa: N818 - a turn of the way, not an error
    """Two prompts have one hash, or a table has more names than are kept in memory."""


class AskedPrompts:
    """Tells the prompts of rows apart by a hash of 64 bits of id and text, and by another of the id and the length.

    Each prompt goes to disk when it comes for the first time, into the bucket of its id. In memory it has 32 bytes.
    """

    def __init__(self, folder: Path, edges: Sequence[str]) -> None:
        folder.mkdir()
        self._edges = pl.Series(list(edges), dtype=pl.String)
        self.buckets = len(self._edges) + 1
        self._stored = Buckets(folder, self.buckets, _SCHEMA, ("prompt_text",))
        self._levels: list[tuple[_Words, _Ints]] = []
        self._marks, self._bucket = _Grown(), _Grown()

    def __len__(self) -> int:
        return len(self._marks.values)

    @property
    def bucket_of(self) -> _Ints:
        """The bucket of each prompt, by its number."""
        return self._bucket.values

    def numbers(self, rows: pa.Table) -> _Ints:
        """The number of the prompt of each row.

        Raises:
            Confused: two prompts can't be told apart.
        """
        prompts = rows["prompt"].chunk(0)
        keys, marks = hashes(pl.Series(pl.from_arrow(prompts))), sizes_of(prompts)
        if "prompt_id" in rows.column_names:
            ids = pl.Series(pl.from_arrow(rows["prompt_id"].chunk(0)))
            keys, marks = keys * _ODD + hashes(ids), marks ^ hashes(ids, seed=1).view(np.int64)
        order = np.argsort(keys)
        keys = keys[order]
        first = np.append(True, keys[1:] != keys[:-1])
        keys = keys[first]
        numbers = self._known(keys)
        new = np.flatnonzero(numbers < 0)
        if len(new):
            numbers[new] = np.arange(len(self), len(self) + len(new))
            self._remember(keys[new], numbers[new])
            self._marks.add(marks[order[first][new]])
            self._put(rows, order[first][new], numbers[new])
        found = np.empty(len(order), np.int64)
        found[order] = numbers[np.cumsum(first) - 1]
        if (self._marks.values[found] != marks).any():
            raise Confused
        return found

    def close(self) -> None:
        """Ends numbering."""
        self._stored.close()
        self._levels = []

    def narrow_of(self, bucket: int) -> pa.Table:
        """number, prompt_id, word (`text_words` of the id), plain (`identities`) of the prompts of a bucket."""
        return self._stored.narrow_of(bucket)

    def bucket(self, number: int) -> Bucket:
        """The prompts of a bucket, in the order of `narrow_of`."""
        return self._stored.bucket(number)

    def _known(self, keys: _Words) -> _Ints:
        numbers = np.full(len(keys), -1, np.int64)
        for known, their in self._levels:
            place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            hit = known[place] == keys
            numbers[hit] = their[place[hit]]
        return numbers

    def _remember(self, keys: _Words, numbers: _Ints) -> None:
        """Sorted levels, each at least twice as long as the next, so that a key is moved a few times only."""
        self._levels.append((keys, numbers))
        while len(self._levels) > 1 and 2 * len(self._levels[-1][0]) > len(self._levels[-2][0]):
            late, early = self._levels.pop(), self._levels.pop()
            keys, numbers = (np.concatenate(parts) for parts in zip(early, late, strict=True))
            order = np.argsort(keys, kind="stable")
            self._levels.append((keys[order], numbers[order]))

    def _put(self, rows: pa.Table, some: _Ints, numbers: _Ints) -> None:
        names = [name for name in ("prompt_id", "prompt") if name in rows.column_names]
        table = rows.select(names).take(pa.array(some))
        ids, prompts, plain = identities(Piece(table, np.arange(table.num_rows)))
        columns = [pa.array(numbers), ids, pa.array(text_words(ids)), pa.array(plain), prompts]
        of = buckets_of(self._edges, ids)
        self._bucket.add(of)
        order, ends = by_bucket(of, self.buckets)
        put = pa.table([column.take(pa.array(order)) for column in columns], schema=_SCHEMA)
        for bucket, start, end in spans(ends):
            self._stored.write(bucket, put.slice(start, end - start))


class _Grown:
    """Numbers to which more are added."""

    def __init__(self) -> None:
        self._space, self._count = np.zeros(1024, np.int64), 0

    @property
    def values(self) -> _Ints:
        return self._space[: self._count]

    def add(self, values: _Ints) -> None:
        while self._count + len(values) > len(self._space):
            self._space = np.concatenate([self._space, np.zeros_like(self._space)])
        self._space[self._count : self._count + len(values)] = values
        self._count += len(values)
