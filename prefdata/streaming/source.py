"""The file of a table of scored answers, read as pieces that hold all rows of their prompts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from prefdata.lazy import np, pa, pl, pq
from prefdata.streaming.pieces import Piece, as_roles, made_id, plain_texts, run_starts, spoken
from prefdata.streaming.places import place_keys, sorted_by
from prefdata.streaming.spill import Buckets
from prefdata.tables.schemas import in_one_chunk
from prefdata.tables.scored_table import ScoredTable, from_frame

__all__ = [
    "BUCKET_BYTES",
    "GATHERED_BYTES",
    "PAIRS_BUCKET_BYTES",
    "PIECE_BYTES",
    "ParquetTable",
    "Table",
    "hashes",
    "parquet_file",
]

PIECE_BYTES = 12 << 20
"""Decoded bytes read at a time."""
GATHERED_BYTES = 4 << 20
"""Decoded bytes read at a time where rows are only put aside."""
BUCKET_BYTES = 512 << 20
"""Decoded bytes of rows that lie together on disk."""
PAIRS_BUCKET_BYTES = 4 * BUCKET_BYTES
"""The same of rows of which only the pairs are put there."""

_BUCKETS = 64
"""Each has some files open."""
_HELD = 64
"""Prompts at the seams of batches that make one piece."""


class Table(ABC):
    """A table that can be read from its start as often as needed."""

    def __init__(self, path: Path, named: Mapping[str, str], n_bytes: float, *, long: bool) -> None:
        self.path, self.named = path, named
        self._n_bytes = n_bytes
        # Lists of answers are read back into memory; texts are not.
        self.buckets = self._count(BUCKET_BYTES if long else BUCKET_BYTES // 8)

    @abstractmethod
    def batches(self, n_bytes: int) -> Iterator[pa.Table]:
        """The rows as they come, in tables of about so many bytes, columns called by role, each in one chunk."""

    @abstractmethod
    def ids(self) -> Iterator[pa.Array]:
        """Some values of the column of ids, as they come."""

    @abstractmethod
    def scored(self, rows: pa.Table) -> ScoredTable:
        """What some rows say, all those of their prompts."""

    def _count(self, n_bytes: int) -> int:
        """How many parts of about so many bytes the table has."""
        return int(min(_BUCKETS, max(1, self._n_bytes // n_bytes)))

    def edges(self, n_bytes: int) -> list[str]:
        """Ids that cut all ids into about equal parts, each of rows of about so many bytes."""
        count = self._count(n_bytes)
        if "prompt_id" not in self.named or count == 1:
            return [f"{number * 16**8 // count:08x}" for number in range(1, count)]
        found: list[str] = []
        for ids in self.ids():
            names = ids.unique()
            found += names.take(pa.array(range(0, len(names), max(1, len(names) // 64)))).drop_null().to_pylist()
        found.sort()
        return sorted({found[number * len(found) // count] for number in range(1, count)} if found else [])

    def clustered(self) -> Iterator[Piece]:
        """Pieces as the rows come; the last prompt of a batch waits for the next one."""
        last: pa.Table | None = None
        held: list[pa.Table] = []
        for table in self.batches(PIECE_BYTES):
            starts = run_starts(table)
            if last is not None:
                ends = int(starts[1]) if len(starts) > 1 else table.num_rows
                more = ends if _goes_on(last, table) else 0
                last = pa.concat_tables([last, table.slice(0, more)]).combine_chunks()
                if more == table.num_rows:
                    continue
                held.append(last)
                if len(held) == _HELD:
                    yield _joined(held)
                    held = []
                if more:
                    table, starts = in_one_chunk(table.slice(more)), starts[1:] - more
            if pa.types.is_list(table.schema.field("response").type):
                last = None
                yield Piece(table, starts)
                continue
            cut = int(starts[-1])
            last = table.take(pa.array(range(cut, table.num_rows)))
            if cut:
                yield Piece(in_one_chunk(table.slice(0, cut)), starts[:-1])
        if last is not None:
            held.append(last)
        if held:
            yield _joined(held)

    def gathered(self, folder: Path, only: NDArray[np.bool_] | None = None) -> Iterator[Piece]:
        """Pieces of rows in any order, each with all rows of its prompts, sorted by source and index.

        Args:
            folder: for the rows that wait.
            only: the rows that are read, with all rows of their prompts; None reads all.
        """
        place = folder / "gathered"
        place.mkdir()
        buckets: Buckets | None = None
        at = 0
        for table in self.batches(GATHERED_BYTES):
            at += table.num_rows
            if only is not None:
                table = in_one_chunk(table.filter(pa.array(only[at - table.num_rows : at])))
                if not table.num_rows:
                    continue
            key = _keys(table)
            table = table.append_column("key", pa.array(key))
            buckets = buckets or Buckets(place, self.buckets, table.schema, ("prompt", "response"))
            of = (key % np.uint64(buckets.count)).astype(np.int64)
            if buckets.count > 1:
                table = table.take(pa.array(np.argsort(of, kind="stable")))
            ends = np.cumsum(np.bincount(of, minlength=buckets.count)).tolist()
            for bucket, (start, end) in enumerate(pairwise([0, *ends])):
                if end > start:
                    buckets.write(bucket, table.slice(start, end - start))
        if buckets is None:
            return
        buckets.close()
        for rows in buckets.read():
            key, order = _by_key(rows.narrow)
            # Rows of one key stay in one piece.
            cuts = np.append(np.flatnonzero(key[1:] != key[:-1]) + 1, len(key))
            start = 0
            while start < len(key):
                end = int(cuts[np.searchsorted(cuts, min(start + rows.step(PIECE_BYTES), len(key)))])
                whole = rows.take(order[start:end]).drop_columns("key")
                yield Piece(whole, run_starts(whole))
                start = end


class ParquetTable(Table):
    """A Parquet file whose columns have the common types, read in batches of bounded size."""

    def __init__(self, path: Path, named: Mapping[str, str]) -> None:
        self._path, self._names = path, list(dict.fromkeys(named.values()))
        with parquet_file(path) as file:
            rows = file.metadata.num_rows
            head = next(file.iter_batches(64, columns=self._names, use_threads=False))
        self._sizes = {name: head.column(name).nbytes / max(1, head.num_rows) for name in self._names}
        self.rows, self.row_bytes = rows, max(1.0, sum(self._sizes.values()))
        long = self.long = not pa.types.is_list(as_roles(path, head, named).schema.field("response").type)
        super().__init__(path, named, rows * self.row_bytes, long=long)

    def batches(self, n_bytes: int) -> Iterator[pa.Table]:
        """See `Table.batches`."""
        return self.columns(tuple(self.named), n_bytes)

    def columns(self, roles: Collection[str], n_bytes: int) -> Iterator[pa.Table]:
        """The same of some columns only."""
        named = {role: name for role, name in self.named.items() if role in roles}
        names = list(dict.fromkeys(named.values()))
        size = int(min(40_000, max(1, n_bytes // max(1.0, sum(self._sizes[name] for name in names)))))
        with parquet_file(self._path) as file:
            for batch in file.iter_batches(size, columns=names, use_threads=False):
                yield as_roles(self.path, batch, named)

    def ids(self) -> Iterator[pa.Array]:
        """See `Table.ids`."""
        with parquet_file(self._path) as file:
            for batch in file.iter_batches(1 << 16, columns=[self.named["prompt_id"]], use_threads=False):
                yield batch.column(0)

    def scored(self, rows: pa.Table) -> ScoredTable:
        """See `Table.scored`."""
        return from_frame(self._path, self.named, pl.DataFrame(pl.from_arrow(rows)))


def parquet_file(path: Path) -> Any:
    """The file, opened so that what was read is not kept."""
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True)


def _joined(prompts: list[pa.Table]) -> Piece:
    sizes = np.array([table.num_rows for table in prompts])
    return Piece(pa.concat_tables(prompts).combine_chunks(), np.cumsum(sizes) - sizes)


def _goes_on(last: pa.Table, table: pa.Table) -> bool:
    """Whether the first row is of the prompt whose rows came last."""
    names = [name for name in ("prompt_id", "prompt") if name in table.column_names]
    return all(last[name][-1].as_py() == table[name][0].as_py() for name in names)


def _keys(table: pa.Table) -> NDArray[np.uint64]:
    """A number for each row, the same for all rows whose prompt has one id."""
    prompts = table["prompt"].chunk(0)
    plain = plain_texts(prompts)
    if "prompt_id" in table.column_names:
        ids = table["prompt_id"].chunk(0)
        if not ids.null_count:
            return hashes(pl.Series(pl.from_arrow(ids)))
        made = zip(ids.to_pylist(), prompts.to_pylist(), strict=True)
        names = [name if name is not None else "" if text is None else made_id(text) for name, text in made]
        return hashes(pl.Series(names, dtype=pl.String))
    keys = hashes(pl.Series(pl.from_arrow(prompts))).copy()
    doubtful = np.flatnonzero(~plain)
    texts = [spoken(text) for text in prompts.take(pa.array(doubtful)).to_pylist()]
    keys[doubtful] = hashes(pl.Series(texts, dtype=pl.String))
    return keys


def _by_key(narrow: pa.Table) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The keys in order, and the order of the rows by key, source and index."""
    key = narrow["key"].to_numpy()
    order = np.argsort(key)
    run = np.empty(len(key), np.int64)
    run[order] = np.cumsum(np.append(False, key[order][1:] != key[order][:-1]))
    order = sorted_by([*place_keys({name: narrow[name].chunk(0) for name in narrow.column_names}), run])
    return key[order], order


def hashes(names: pl.Series, seed: int = 0) -> NDArray[np.uint64]:
    """A hash of 64 bits for each text, which holds for this process."""
    return np.asarray(names.hash(seed).to_numpy())
