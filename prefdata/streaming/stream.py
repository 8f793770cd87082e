"""Pairs of a table in bounded memory: read once where a prompt's rows lie together, put in buckets where not.

A piece holds all rows of its prompts. Those that are plain are decided on arrays (`prefdata.streaming.select`), the
others are collected and decided as a small table (`prefdata.scored_table`, `PairRule.pair`). Pairs wait on disk, in
buckets of neighbouring ids, until they are written in order.
"""

from __future__ import annotations

import errno
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prefdata.audit.measures import AnswerArrays, Auditor, PairArrays
from prefdata.dataset import TRLPairs
from prefdata.errors import InputError
from prefdata.pairing import PairRule
from prefdata.spec import JSON
from prefdata.streaming.answers import AnswersAside
from prefdata.streaming.cleaned import CleanedTable, can_clean
from prefdata.streaming.digest import CandidateDigest, run_words
from prefdata.streaming.pieces import (
    Piece,
    Rows,
    can_stream,
    identities,
    repeats,
    rows_of,
    whole_runs,
)
from prefdata.streaming.rows import LONG_TEXTS, PROMPT_CELLS, as_cells, as_messages, pair_rows
from prefdata.streaming.select import Answers, Picks, can_select, pick
from prefdata.streaming.source import ParquetTable, Table
from prefdata.streaming.spill import SortedRows
from prefdata.tables import CANDIDATE_DROPS, DROPS, PAIR_KEY, PROMPTS, checked, pairs_schema

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
    """What became of a table: see `prefdata.scored_table` and `prefdata.pairing.Paired`."""

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
            work = _Work(table, rule, folder / "scattered", with_candidates)
            work.pieces(table.gathered(folder), strict=False)
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
        edges = table.edges()
        self._aside = AnswersAside(folder, edges) if with_candidates else None
        schema = pa.schema([*self._schema, *PROMPT_CELLS])
        self._spilled = SortedRows(folder / "pairs", edges, schema, LONG_TEXTS)
        self._rest: list[pa.Table] = []
        self._rest_bytes = 0
        self._drops: list[pl.DataFrame] = []
        self._ineligible: list[pl.DataFrame] = []
        self._counts: Counter[str] = Counter()
        self._digest, self._auditor = CandidateDigest(), Auditor()

    def pieces(self, pieces: Iterator[Piece], *, strict: bool) -> None:
        seen = _Seen(strict=strict)
        for piece in pieces:
            self._piece(piece, seen)
            if self._rest_bytes > REST_BYTES:
                self._decide_rest()
        self._decide_rest()
        seen.check()

    def result(self) -> PairedTable:
        counts = self._counts
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
        repeated = _repeated(ids)
        if repeated.any() and seen.strict:
            raise _Scattered
        seen.add(ids)
        whole = whole_runs(piece)
        if not self._fast:
            whole &= False
        if not whole.all():
            self._leave(piece.rows_of_runs(~whole))
            kept = np.flatnonzero(whole)
            if not len(kept):
                return
            ids, prompts = ids.take(pa.array(kept)), prompts.take(pa.array(kept))
            piece, plain, repeated = piece.part(whole), plain[whole], repeated[whole]
        rows = rows_of(piece, ids, plain & ~repeated, self._rule.length)
        picks = pick(self._rule, rows.answers, rows.eligible)
        certain = picks.certain & rows.plain
        if self._aside:
            certain &= ~rows.answers.ambiguous
        if not certain.all():
            self._leave(piece.rows_of_runs(~certain))
        if certain.any():
            self._take(rows, picks, certain, prompts)

    def _leave(self, rows: pa.Table) -> None:
        """Collects rows that are to be decided as a table."""
        self._rest.append(rows)
        self._rest_bytes += rows.nbytes

    def _take(self, rows: Rows, picks: Picks, certain: _Flags, prompts: pa.Array) -> None:
        """Counts and puts aside the pairs that are certain."""
        answers = rows.answers
        runs = np.flatnonzero(certain)
        ids = answers.prompt_ids.take(pa.array(runs))
        sizes = np.diff(np.append(answers.starts, len(answers.run)))
        some = np.flatnonzero(certain[answers.run])
        labels = {name: column[some] for name, column in rows.labels.items()}
        index = None if rows.index is None else rows.index[some]
        kept = sizes[runs]
        self._digest.add(
            ids,
            np.cumsum(kept) - kept,
            labels,
            index,
            answers.score[some],
            answers.n_bytes[some],
            _run_words(answers, runs),
        )
        self._count(len(runs), len(some), len(some), len(runs), len(runs))
        self._auditor.add_arrays(_audited(rows, certain, some), _audited_pairs(rows, picks, runs))
        order = pc.sort_indices(ids)
        runs = runs[order.to_numpy()]
        ids = ids.take(order)
        pairs = pair_rows(rows, picks, runs, sizes[runs], self._schema, ids)
        cells = [prompts.take(pa.array(runs)), pa.nulls(len(runs), pa.string())]
        self._spilled.add(pa.table([*pairs.columns, *cells], schema=self._spilled.schema))
        if self._aside:
            self._aside.add(rows, runs, ids, cells)

    def _decide_rest(self) -> None:
        """Decides the collected rows as `prefdata.table_pairs` decides a whole table."""
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
        nothing = pa.schema([*self._schema, *PROMPT_CELLS]).empty_table()
        for table in chain([nothing], self._spilled.tables()):
            texts, turns = (_one(table[name]) for name, _ in PROMPT_CELLS)
            pairs = checked(table.drop_columns([name for name, _ in PROMPT_CELLS]), self._schema, PAIR_KEY, "pairs")
            prompts = {"prompt_id": pairs["prompt_id"], "messages": as_messages(texts, turns)}
            prompts |= {
                "origin": pa.repeat(pa.scalar(""), table.num_rows),
                "split": pa.nulls(table.num_rows, pa.string()),
            }
            yield TRLPairs().rows(pairs, pa.table(prompts).cast(PROMPTS))


class _Seen:
    """The ids that came by, as 64-bit hashes: whether one came again in another piece."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self._hashes: list[NDArray[np.uint64]] = []
        self._count, self._next = 0, 10_000

    def add(self, ids: pa.Array) -> None:
        if self.strict:
            self._hashes.append(_id_hashes(ids))
            self._count += len(ids)
            if self._count > self._next:
                self.check()
                self._next = 2 * self._count

    def check(self) -> None:
        if self._hashes:
            self._hashes = [np.unique(np.concatenate(self._hashes))]
            if len(self._hashes[0]) != self._count:
                raise _Scattered


def _id_hashes(ids: pa.Array) -> NDArray[np.uint64]:
    return np.asarray(pl.Series(pl.from_arrow(ids)).hash().to_numpy())


def _repeated(ids: pa.Array) -> _Flags:
    """Runs whose id another run has."""
    if len(np.unique(_id_hashes(ids))) == len(ids):
        return np.zeros(len(ids), bool)
    names = ids.to_pylist()
    counts = Counter(names)
    return np.array([counts[name] > 1 for name in names])


def _run_words(answers: Answers, runs: _Ints) -> NDArray[np.uint64]:
    """`prefdata.streaming.digest.run_words` of some runs."""
    texts = answers.text
    if (answers.place[1:] < answers.place[:-1]).any():
        texts = texts.take(pa.array(np.argsort(answers.place)))
    ends = np.append(answers.starts, len(answers.run))[1:]
    return run_words(texts, answers.starts[runs], ends[runs], ~answers.ambiguous[runs])


def _audited(rows: Rows, certain: _Flags, some: _Ints) -> AnswerArrays:
    answers, source = rows.answers, rows.labels.get("source")
    others: dict[str, Any] = {"length": (rows.characters[some], None)}
    if rows.index is not None:
        others["index"] = (rows.index.values[some], None if rows.index.valid is None else rows.index.valid[some])
    return AnswerArrays(
        prompts=answers.run[some],
        scores=answers.score[some],
        sources=np.full(len(some), -1) if source is None else source.codes[some],
        names=[] if source is None else source.names,
        others=others,
        repeats=int(certain[repeats(answers)].sum()),
    )


def _audited_pairs(rows: Rows, picks: Picks, runs: _Ints) -> PairArrays:
    source, length = rows.labels.get("source"), rows.answers.length
    sides = {"chosen": picks.chosen, "rejected": picks.rejected}
    at = {name: side.row[runs] for name, side in sides.items()}
    return PairArrays(
        differences=length[at["chosen"]] - length[at["rejected"]],
        tied={name: side.n_tied[runs] for name, side in sides.items()},
        sources={name: np.full(len(runs), -1) if source is None else source.codes[rows_] for name, rows_ in at.items()},
    )


def _one(column: pa.ChunkedArray) -> pa.Array:
    # Combining copies even a single chunk.
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _sorted(frames: list[pl.DataFrame], schema: pa.Schema) -> pa.Table:
    if not frames:
        return schema.empty_table()
    return pl.concat(frames).sort(pl.all(), nulls_last=False).to_arrow().cast(schema)
