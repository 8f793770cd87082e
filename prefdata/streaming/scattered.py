"""A long table in which the rows of a prompt lie apart, read twice: all but the answers, then the answers.

After the first reading the scores tell which answers may win, so only these, and each prompt once, are put on disk.
Prompts that are not decided that way are named in `left`; whoever asked reads their rows again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from prefdata.errors import ConservationError
from prefdata.lazy import np, pa, pc
from prefdata.pairing import PairRule
from prefdata.streaming import source, spill
from prefdata.streaming.asked import AskedPrompts, Confused
from prefdata.streaming.digest import text_words
from prefdata.streaming.pieces import Rows, cut_off, labels_of, measured, scores_of
from prefdata.streaming.places import Labels, Numbers, keys_of, places
from prefdata.streaming.rows import LONG_TEXTS
from prefdata.streaming.select import Answers, Picks, can_select, pick, reachable
from prefdata.streaming.source import ParquetTable
from prefdata.streaming.spill import Buckets, by_bucket, cuts, spans

__all__ = ["ScatteredTable", "can_scatter"]

_Ints = NDArray[np.int64]
_Words = NDArray[np.uint64]
_Flags = NDArray[np.bool_]
_ANSWER = pa.schema([("response", pa.string())])
_SLICE = 6_000
"""Prompts that are decided at a time."""
_CHUNK = 1 << 20
"""Rows whose numbers are sorted at a time."""
_BUCKET_ROWS = 1 << 19
"""Rows in a bucket, about."""
_MOST = 0.5
"""Share of rows to be read a third time from which on the second reading is left out."""
_PLACE_BITS = 36
_NAMES = 10_000
"""Different sources, models or finish reasons that are kept in memory."""


def can_scatter(table: ParquetTable, rule: PairRule) -> bool:
    """Whether the two readings know all that the table and the rule may say."""
    return table.long and can_select(rule)


class ScatteredTable:
    """Decides the prompts that are plain, and keeps their pairs; it is a `prefdata.streaming.pending.PairSink` too."""

    def __init__(self, table: ParquetTable, rule: PairRule, folder: Path, schema: pa.Schema) -> None:
        """Makes its folder.

        Args:
            table: a long one.
            rule: one that `can_select` knows.
            folder: where rows wait.
            schema: of the pairs, with their texts.
        """
        folder.mkdir()
        self._table, self._rule = table, rule
        edges = table.edges(min(source.BUCKET_BYTES, _BUCKET_ROWS * table.row_bytes))
        self._asked = AskedPrompts(folder / "asked", edges)
        self._columns = _Columns(folder / "rows")
        self._pools: dict[str, dict[str, int]] = {}
        self._places = _Columns(folder / "places")
        self._answers = _buckets(folder / "answers", self._asked.buckets, _ANSWER, ("response",))
        self._pairs = _buckets(folder / "pairs", self._asked.buckets, schema, LONG_TEXTS)
        self.narrow = self._pairs.narrow
        self.left = np.zeros(table.rows, bool)
        """Rows of the prompts that are not decided here."""
        self._wanted = np.zeros(table.rows, bool)
        self._bucket = 0

    def decided(self) -> Iterator[tuple[Rows, Picks, pa.Array, _Words]]:
        """Reads the table, and gives prompts as `PendingPairs.add` takes them; each is to be flushed at once."""
        try:
            self._read_scores()
        except Confused:
            self.left[:] = True
            return
        finally:
            self._columns.close()
            self._asked.close()
        self._find_in_reach()
        # Where most are to be read again, the second reading is not worth its while.
        if self.left.mean() > _MOST:
            self.left[:] = True
            return
        self._read_answers()
        for bucket in range(self._asked.buckets):
            self._bucket = bucket
            yield from self._decide(bucket)
        self._pairs.close()

    def order(self, ids: pa.Array) -> tuple[_Ints | None, _Ints]:
        """See `PairSink`; pairs come in order, a bucket at a time."""
        return None, np.array([len(ids)])

    def add_texts(self, texts: Mapping[str, pa.Array], ends: _Ints) -> dict[str, _Ints]:
        """See `PairSink`; the texts are on disk, and known by their places."""
        if any(places.null_count or (pc.min(places).as_py() or 0) < 0 for places in texts.values()):
            raise ConservationError("pairs: an answer won that was not kept")
        return {name: places.to_numpy() for name, places in texts.items()}

    def add_narrow(self, table: pa.Table) -> None:
        """See `PairSink`."""
        self._pairs.write_narrow(self._bucket, table)

    def tables(self, rows: int) -> Iterator[pa.Table]:
        """All pairs, sorted, in tables of at most so many rows and of bounded size."""
        done = 0
        for bucket in range(self._asked.buckets):
            narrow = self._pairs.narrow_of(bucket)
            if not narrow.num_rows:
                continue
            answers = self._answers.bucket(bucket).texts["response"]
            prompts = self._asked.bucket(bucket).texts["prompt_text"]
            texts = {"prompt_text": prompts, "response_chosen": answers, "response_rejected": answers}
            each = sum(column.nbytes / max(1, len(column)) for column in texts.values())
            step = int(min(rows, max(1, spill.TAKEN_BYTES // max(1.0, each))))
            for start, end in cuts(narrow.num_rows, step, rows, done):
                part = narrow.slice(start, end - start)
                columns = [_told(texts.get(name), part[name].chunk(0), name) for name in self._pairs.schema.names]
                yield pa.table(columns, schema=self._pairs.schema)
            done += narrow.num_rows

    def _read_scores(self) -> None:
        """The first reading: everything but the answers."""
        roles = [role for role in self._table.named if role != "response"]
        for rows in self._table.columns(roles, source.PIECE_BYTES):
            named = {name: rows[name].chunk(0) for name in rows.column_names}
            score, labels = scores_of(named["score"]), labels_of(named)
            fit = np.isfinite(score) & ~cut_off(labels)
            number = self._asked.numbers(rows).astype(np.int32)
            self._columns.add(number=number, score=score, fit=fit)
            for name, column in labels.items():
                pool = self._pools.setdefault(name, {})
                self._columns.add(**{name: column.pooled(pool).astype(np.int32)})
                if len(pool) > _NAMES:
                    raise Confused
            if "index" in named:
                index = Numbers.of(named["index"])
                valid = np.ones(len(score), bool) if index.valid is None else index.valid
                self._columns.add(index=index.values, valid=valid)

    def _find_in_reach(self) -> None:
        """Notes whose texts are needed, and sorts the rows of each bucket by the ids of their prompts."""
        numbers, score, fit = (self._columns[name] for name in ("number", "score", "fit"))
        for start in range(0, len(numbers), _CHUNK):
            order, ends = by_bucket(self._asked.bucket_of[numbers[start : start + _CHUNK]], self._asked.buckets)
            for bucket, first, end in spans(ends):
                self._places.add(**{f"rows{bucket}": order[first:end] + start})
        self._places.close()
        self._local = np.zeros(len(self._asked), np.int32)
        for bucket in range(self._asked.buckets):
            rows = self._places[f"rows{bucket}"]
            if not len(rows):
                continue
            rank, plain = _ranked(self._asked.narrow_of(bucket), self._local)
            run = rank[self._local[numbers[rows]]]
            # Place and run in one number: numbers are sorted faster than they are ordered.
            packed = np.sort((run << _PLACE_BITS) + np.arange(len(run)))
            run, order = packed >> _PLACE_BITS, packed & ((1 << _PLACE_BITS) - 1)
            starts, sizes = _runs(run)
            sure = plain & np.logical_and.reduceat(fit[rows][order], starts) & (sizes > 1)
            self.left[rows[order[~sure[run]]]] = True
            order, run = order[sure[run]], np.repeat(np.arange(int(sure.sum())), sizes[sure])
            self._places.add(**{f"order{bucket}": order})
            if len(order):
                rows = rows[order]
                self._wanted[rows] = reachable(self._rule, _runs(run)[0], run, score[rows])
        self._places.close()

    def _read_answers(self) -> None:
        """The second reading: what is counted of every answer, and the texts that are needed."""
        numbers, at = self._columns["number"], 0
        for table in self._table.columns(["response"], source.GATHERED_BYTES):
            texts = table["response"].chunk(0)
            n_bytes, characters, readable = measured(texts)
            words = text_words(texts)
            self._columns.add(n_bytes=n_bytes, characters=characters, readable=readable, words=words)
            rows = np.flatnonzero(self._wanted[at : at + len(texts)])
            order, ends = by_bucket(self._asked.bucket_of[numbers[rows + at]], self._asked.buckets)
            kept = pa.table([texts.take(pa.array(rows[order]))], schema=_ANSWER)
            for bucket, start, end in spans(ends):
                self._answers.write(bucket, kept.slice(start, end - start))
            at += len(texts)
        self._columns.close()
        self._answers.close()

    def _decide(self, bucket: int) -> Iterator[tuple[Rows, Picks, pa.Array, _Words]]:
        """The prompts of a bucket, by their ids."""
        order, rows = self._places[f"order{bucket}"], self._places[f"rows{bucket}"]
        if not len(order):
            return
        asked = self._asked.narrow_of(bucket)
        # In the order of the table first: reading a long column here and there is slow.
        columns = {name: self._columns[name][rows] for name in self._columns.names}
        wanted = self._wanted[rows]
        columns["text"] = np.where(wanted, np.cumsum(wanted) - 1, -1)
        starts = np.append(_runs(columns["number"][order])[0], len(order))
        for start in range(0, len(starts) - 1, _SLICE):
            at = starts[start : start + _SLICE + 1]
            some = order[at[0] : at[-1]]
            here = {name: column[some] for name, column in columns.items()}
            prompts = self._local[here["number"][at[:-1] - at[0]]].astype(np.int64)
            found = self._rows_of(here, at[:-1] - at[0], asked["prompt_id"].chunk(0).take(pa.array(prompts)))
            picks = pick(self._rule, found.answers, found.eligible)
            known = picks.certain | picks.flat
            self.left[rows[some[~known[found.answers.run]]]] = True
            if known.any():
                yield found, picks, pa.array(prompts), asked["word"].chunk(0).take(pa.array(prompts)).to_numpy()

    def _rows_of(self, columns: Mapping[str, NDArray[Any]], starts: _Ints, ids: pa.Array) -> Rows:
        """What both readings say of some rows, in runs; in place of a text stands its place, -1 for none."""
        score, n_bytes, characters = (columns[name] for name in ("score", "n_bytes", "characters"))
        run = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(score))))
        labels = {name: Labels(columns[name].astype(np.int64), list(pool)) for name, pool in self._pools.items()}
        index = None
        if "index" in columns:
            index = Numbers(columns["index"], None if columns["valid"].all() else columns["valid"])
        place, ambiguous = places(keys_of(index, labels.get("source")), run, len(starts))
        plain = np.logical_and.reduceat(columns["readable"], starts)
        length = n_bytes if self._rule.length == "bytes" else characters
        text = pa.array(columns["text"])
        answers = Answers(ids, starts, run, text, columns["words"], score, length, n_bytes, place, ambiguous)
        return Rows(answers, labels, index, characters, plain[run], plain)


class _Columns:
    """Columns of numbers on disk, each a file to which entries are added."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._files: dict[str, Any] = {}
        self._kinds: dict[str, np.dtype[Any]] = {}

    @property
    def names(self) -> list[str]:
        return list(self._kinds)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """All entries of a column, after `close`; they lie in the page cache."""
        if name not in self._kinds or not (self._folder / name).stat().st_size:
            return np.zeros(0, self._kinds.get(name, np.int64))
        return np.asarray(np.memmap(self._folder / name, self._kinds[name], "r"))

    def add(self, **columns: NDArray[Any]) -> None:
        for name, column in columns.items():
            if name not in self._files:
                self._files[name] = pa.OSFile(str(self._folder / name), "ab" if name in self._kinds else "wb")
                self._kinds[name] = column.dtype
            self._files[name].write(pa.py_buffer(np.ascontiguousarray(column)))

    def close(self) -> None:
        """Lets what was added be read; more columns may follow."""
        for file in self._files.values():
            file.close()
        self._files = {}


def _runs(run: NDArray[Any]) -> tuple[_Ints, _Ints]:
    """Where each run of equal numbers starts, and how long it is."""
    starts = np.flatnonzero(np.append(True, run[1:] != run[:-1]))
    return starts, np.diff(np.append(starts, len(run)))


def _buckets(folder: Path, count: int, schema: pa.Schema, texts: tuple[str, ...]) -> Buckets:
    folder.mkdir()
    return Buckets(folder, count, schema, texts)


def _ranked(asked: pa.Table, local: NDArray[np.int32]) -> tuple[_Ints, _Flags]:
    """The rank of each prompt of a bucket by its id, and whether each, by rank, is plain and alone with its id.

    Notes in `local` where in the bucket each prompt is, by its number.
    """
    ids = asked["prompt_id"].chunk(0)
    local[asked["number"].to_numpy()] = np.arange(len(ids))
    order = pc.sort_indices(ids)
    ids, plain = ids.take(order), asked["plain"].chunk(0).take(order)
    again = pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    twice = np.append(again, False) | np.append(False, again)
    rank = np.empty(len(ids), np.int64)
    rank[order.to_numpy()] = np.arange(len(ids))
    return rank, plain.to_numpy(zero_copy_only=False) & ~twice


def _told(texts: pa.Array | None, places: pa.Array, name: str) -> pa.Array:
    """A column of pairs: texts by their places, no text at all, or what it is."""
    if texts is not None:
        return texts.take(places).cast(pa.string())
    return pa.nulls(len(places), pa.string()) if name in LONG_TEXTS else places
