"""Pairs of a table in bounded memory: read once where a prompt's rows lie together, twice or in buckets where not.

A piece holds all rows of its prompts. Those that are plain are decided on arrays (`prefdata.streaming.select`), the
others are collected and decided as a small table (`prefdata.tables.scored_table`, `PairRule.pair`). Pairs wait on disk, in
buckets of neighbouring ids, until they are written in order.
"""

from __future__ import annotations

import errno
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from numpy.typing import NDArray

from prefdata.dataset import TRLPairs
from prefdata.dataset.measures import Auditor
from prefdata.errors import ConservationError, InputError
from prefdata.lazy import np, pa, pc, pl
from prefdata.pairing import PairRule
from prefdata.spec import JSON
from prefdata.streaming import source
from prefdata.streaming.answers import AnswersAside
from prefdata.streaming.cleaned import CleanedTable, can_clean
from prefdata.streaming.digest import CandidateDigest, text_words
from prefdata.streaming.pending import PENDING_PROMPTS, PendingPairs
from prefdata.streaming.pieces import (
    Piece,
    Rows,
    can_stream,
    identities,
    rows_of,
    whole_runs,
)
from prefdata.streaming.rows import LONG_TEXTS, PROMPT_CELLS, as_cells, as_messages, merged
from prefdata.streaming.scattered import ScatteredTable, can_scatter
from prefdata.streaming.select import Answers, Picks, can_select, pick
from prefdata.streaming.source import ParquetTable, Table
from prefdata.streaming.spill import SortedRows
from prefdata.tables.schemas import CANDIDATE_DROPS, DROPS, PAIR_KEY, ROWS_PER_GROUP, checked, one_chunk, pairs_schema

__all__ = ["REST_BYTES", "PairedTable", "stream_pairs"]

REST_BYTES = 24 << 20
"""Decoded bytes of rows that are collected before they are decided as a table."""

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""What is said of a disk that rows are written to, never of a file that is read."""
_ASKED = ("prompt_id", *(name for name, _ in PROMPT_CELLS))

_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class PairedTable:
    """What became of a table: see `prefdata.tables.scored_table` and `prefdata.pairing.Paired`."""

    rows: Iterator[pa.Table]
    """The dataset's rows in order; may be asked for once, while the folder of the spilled rows is there."""
    pairs: int
    paired_prompts: int
    prompts: int
    candidates: int
    """Rows of candidates, those of dropped prompts included."""
    usable: int
    """Candidates of prompts that can be paired."""
    drops: pa.Table
    ineligible: pa.Table
    digest: str
    audit: JSON
    answers: Iterable[pa.Table] | None = None


class _Scattered(Exception):  # noqa: N818 - a turn of the way, not an error
    """Rows of one prompt lie apart."""


def stream_pairs(
    path: Path, named: Mapping[str, str], rule: PairRule, folder: Path, *, with_candidates: bool = False
) -> PairedTable | None:
    """Pairs the candidates of a table.

    Args:
        path: the table.
        named: role → name of the column.
        rule: how chosen and rejected are picked.
        folder: an empty one for rows that wait on disk; the caller deletes it.
        with_candidates: put every answer with its score aside, too.

    Returns:
        None where the table's columns are of types that only the way through memory reads.

    Raises:
        InputError: the table can't be read.
    """
    if not (can_stream(path, named) or can_clean(path, named)):
        return None
    try:
        table: Table = ParquetTable(path, named) if can_stream(path, named) else CleanedTable(path, named)
        work = _Work(table, rule, folder / "clustered", with_candidates)
        try:
            work.pieces(table.clustered(), strict=True)
        except _Scattered:
            shutil.rmtree(folder / "clustered")
            work = _Work(table, rule, folder / "gathered", with_candidates)
            left = work.scattered(folder / "scattered")
            if left is None or left.any():
                work.pieces(table.gathered(folder / "gathered", left), strict=False)
        return work.result()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{str(path)!r} is not a whole Parquet file: {first}", hint="copy the file again") from error


class _Work:
    """Everything that adds up over the pieces of one table."""

    def __init__(self, table: Table, rule: PairRule, folder: Path, with_candidates: bool) -> None:
        self._table, self._rule = table, rule
        self._schema = pairs_schema(rule.extra_columns())
        self._fast = can_select(rule)
        self._aside = AnswersAside(folder, table.edges(source.BUCKET_BYTES)) if with_candidates else None
        self._put = pa.schema([*self._schema, *PROMPT_CELLS])
        edges = table.edges(source.PAIRS_BUCKET_BYTES)
        self._spilled = SortedRows(folder / "pairs", edges, self._put, LONG_TEXTS)
        self._scattered: ScatteredTable | None = None
        self._rest: list[pa.Table] = []
        self._rest_bytes = 0
        self._drops: list[pl.DataFrame] = []
        self._flat: list[tuple[pa.Array, _Ints]] = []
        """Ids and numbers of answers of prompts whose answers all have one score."""
        self._ineligible: list[pl.DataFrame] = []
        self._counts: Counter[str] = Counter()
        self._digest, self._auditor = CandidateDigest(), Auditor()
        self._pending = PendingPairs(self._spilled, self._digest, self._auditor)

    def pieces(self, pieces: Iterator[Piece], *, strict: bool) -> None:
        seen = _Seen(strict=strict)
        for piece in pieces:
            self._piece(piece, seen)
            if self._rest_bytes > REST_BYTES:
                self._decide_rest()
        self._decide_rest()
        self._pending.flush()
        seen.check()

    def scattered(self, folder: Path) -> NDArray[np.bool_] | None:
        """Decides what two readings can decide; the rows that are left, None where the table is not fit for it."""
        if self._aside or not (isinstance(self._table, ParquetTable) and can_scatter(self._table, self._rule)):
            return None
        self._scattered = ScatteredTable(self._table, self._rule, folder, self._put)
        pending = PendingPairs(self._scattered, self._digest, self._auditor)
        for rows, picks, prompts, hashes in self._scattered.decided():
            pending.add(rows, picks, prompts, hashes)
            self._taken(rows.answers, picks)
            pending.flush()
        return self._scattered.left

    def result(self) -> PairedTable:
        counts = self._counts
        if self._flat:
            ids, sizes = zip(*self._flat, strict=True)
            self._drops.append(_without_contrast(pa.concat_arrays(ids), np.concatenate(sizes)))
        return PairedTable(
            self._dataset_rows(),
            counts["pairs"],
            counts["paired_prompts"],
            counts["prompts"],
            counts["candidates"],
            counts["usable"],
            _sorted(self._drops, DROPS),
            _sorted(self._ineligible, CANDIDATE_DROPS),
            self._digest.hexdigest(),
            self._auditor.result(),
            self._aside.tables() if self._aside else None,
        )

    def _piece(self, piece: Piece, seen: _Seen) -> None:
        ids, prompts, plain = identities(piece)
        hashes = text_words(ids)
        repeated = seen.add(ids, hashes)
        whole = whole_runs(piece)
        if not self._fast:
            whole &= False
        if not whole.all():
            self._leave(piece.rows_of_runs(~whole))
            kept = np.flatnonzero(whole)
            if not len(kept):
                return
            ids, prompts = ids.take(pa.array(kept)), prompts.take(pa.array(kept))
            piece, plain, repeated, hashes = piece.part(whole), plain[whole], repeated[whole], hashes[whole]
        rows = rows_of(piece, ids, plain & ~repeated, self._rule.length)
        picks = pick(self._rule, rows.answers, rows.eligible)
        if self._aside:
            apart = ~rows.answers.ambiguous
            picks = replace(picks, certain=picks.certain & apart, flat=picks.flat & apart)
        known = picks.certain | picks.flat
        if not known.all():
            self._leave(piece.rows_of_runs(~known))
        if known.any():
            self._take(rows, picks, prompts, hashes)

    def _leave(self, rows: pa.Table) -> None:
        """Collects rows that are to be decided as a table."""
        self._rest.append(rows)
        self._rest_bytes += rows.nbytes

    def _take(self, rows: Rows, picks: Picks, prompts: pa.Array, hashes: NDArray[np.uint64]) -> None:
        """Counts the prompts that are certain, and puts their pairs aside."""
        answers, known = rows.answers, picks.certain | picks.flat
        self._pending.add(rows, picks, prompts, hashes)
        self._taken(answers, picks)
        if self._aside:
            runs = np.flatnonzero(known)
            cells = [prompts.take(pa.array(runs)), pa.nulls(len(runs), pa.string())]
            self._aside.add(rows, runs, answers.prompt_ids.take(pa.array(runs)), cells)
        if len(self._pending) >= PENDING_PROMPTS:
            self._pending.flush()

    def _taken(self, answers: Answers, picks: Picks) -> None:
        """Counts the prompts that are certain."""
        known = picks.certain | picks.flat
        n_answers, n_pairs = int(known[answers.run].sum()), int(picks.certain.sum())
        self._count(int(known.sum()), n_answers, n_answers, n_pairs, n_pairs)
        runs = np.flatnonzero(picks.flat)
        self._flat.append((answers.prompt_ids.take(pa.array(runs)), answers.sizes[runs]))

    def _decide_rest(self) -> None:
        """Decides the collected rows as `prefdata.flow.from_table` decides a whole table."""
        if not self._rest:
            return
        scored = self._table.scored(pa.concat_tables(self._rest))
        self._rest, self._rest_bytes = [], 0
        candidates = scored.candidates.sort(pl.all(), nulls_last=False)
        paired = self._rule.pair(candidates, scored.prompts["prompt_id"])
        self._digest.add_frame(candidates)
        self._auditor.add(candidates, paired.pairs)
        pairs = checked(paired.pairs.to_arrow(), self._schema, PAIR_KEY, "pairs")
        shown = dict(scored.prompts.iter_rows())
        texts = [as_cells(shown[name]) for name in pairs["prompt_id"].to_pylist()]
        for number, (name, kind) in enumerate(PROMPT_CELLS):
            pairs = pairs.append_column(name, pa.array([cells[number] for cells in texts], kind))
        self._pending.flush()
        order = pairs.sort_by([(name, "ascending") for name in PAIR_KEY])
        self._spilled.add(order.combine_chunks())
        if self._aside:
            asked = [(name, *as_cells(messages)) for name, messages in scored.prompts.iter_rows()]
            cells = [pa.array(column, pa.string()) for column in zip(*asked, strict=True)] or [[], [], []]
            self._aside.add_frame(candidates, pa.table(dict(zip(_ASKED, cells, strict=True))))
        self._drops += [scored.drops, paired.drops]
        self._ineligible.append(paired.ineligible)
        prompts = scored.prompts.height + scored.drops.height
        n_paired = paired.pairs["prompt_id"].n_unique()
        self._count(prompts, scored.rows, candidates.height, pairs.num_rows, n_paired)

    def _count(self, prompts: int, candidates: int, usable: int, pairs: int, paired_prompts: int) -> None:
        self._counts.update(
            prompts=prompts, candidates=candidates, usable=usable, pairs=pairs, paired_prompts=paired_prompts
        )

    def _dataset_rows(self) -> Iterator[pa.Table]:
        tables = self._spilled.tables(ROWS_PER_GROUP)
        if self._scattered is not None:
            tables = merged(self._scattered.tables(ROWS_PER_GROUP), tables)
        for table in chain([self._put.empty_table()], tables):
            texts, turns = (one_chunk(table[name]) for name, _ in PROMPT_CELLS)
            pairs = table.select(self._schema.names)
            _check_keys(pairs)
            prompts = pa.table({"prompt_id": pairs["prompt_id"], "messages": as_messages(texts, turns)})
            yield TRLPairs().rows(pairs, prompts)


def _without_contrast(ids: pa.Array, sizes: _Ints) -> pl.DataFrame:
    """The drops of prompts whose answers are all eligible and have one score, as `PairRule.pair` words them."""
    why = {"stage": pl.lit("pairs"), "reason": pl.lit("no_contrast")}
    detail = [f"{size} of {size} candidates eligible" for size in sizes.tolist()]
    frame = pl.Series("prompt_id", pl.from_arrow(ids), pl.String).to_frame()
    return frame.with_columns(**why, detail=pl.Series(detail, dtype=pl.String))


class _Seen:
    """The ids that came by, as 64-bit hashes: whether one came again, in the same piece or in another one."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._hashes: list[NDArray[np.uint64]] = []
        self._count, self._next = 0, 10_000

    def add(self, ids: pa.Array, hashes: NDArray[np.uint64]) -> _Flags:
        """The runs whose id another run of the piece has; where that is no matter of the piece, none are told."""
        if self._strict:
            self._hashes.append(hashes)
            self._count += len(ids)
            if self._count > self._next:
                self.check()
                self._next = 2 * self._count
        elif _any_twice(hashes):
            names = ids.to_pylist()
            counts = Counter(names)
            return np.array([counts[name] > 1 for name in names])
        return np.zeros(len(ids), bool)

    def check(self) -> None:
        if self._hashes:
            self._hashes = [np.concatenate(self._hashes)]
            if _any_twice(self._hashes[0]):
                raise _Scattered


def _any_twice(hashes: NDArray[np.uint64]) -> bool:
    ordered = np.sort(hashes)
    return bool((ordered[1:] == ordered[:-1]).any())


def _check_keys(pairs: pa.Table) -> None:
    """Of rows in order: what `checked` asks of their key."""
    ids, numbers = (one_chunk(pairs[name]) for name in PAIR_KEY)
    again = pc.and_(pc.equal(ids[1:], ids[:-1]), pc.equal(numbers[1:], numbers[:-1]))
    if ids.null_count or numbers.null_count or pc.any(again).as_py():
        raise ConservationError("pairs: rows without or with the same prompt_id, pair_index")


def _sorted(frames: list[pl.DataFrame], schema: pa.Schema) -> pa.Table:
    if not frames:
        return schema.empty_table()
    return pl.concat(frames).sort(pl.all(), nulls_last=False).to_arrow().cast(schema)
