"""Pairs of a Parquet table in bounded memory: read once where a prompt's rows lie together, put in buckets where not.

A piece holds all rows of its prompts. Those that are plain are decided on arrays (`prefdata.streaming.select`), the
others are collected and decided as a small table (`prefdata.scored_table`, `PairRule.pair`). Pairs wait on disk, in
buckets of neighbouring ids, until they are written in order.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from prefdata.audit.measures import Auditor
from prefdata.dataset import TRLPairs
from prefdata.errors import InputError
from prefdata.pairing import PairRule
from prefdata.scored_table import from_frame
from prefdata.spec import JSON
from prefdata.streaming.digest import CandidateDigest, text_words
from prefdata.streaming.pieces import (
    Piece,
    Rows,
    can_stream,
    identities,
    repeats,
    rows_of,
    whole_runs,
)
from prefdata.streaming.rows import PROMPT_CELLS, as_cells, as_messages, pair_rows
from prefdata.streaming.select import Picks, can_select, pick
from prefdata.streaming.source import ParquetTable
from prefdata.streaming.spill import SortedRows
from prefdata.tables import CANDIDATE_DROPS, DROPS, PAIR_KEY, PROMPTS, checked, pairs_schema

__all__ = ["REST_BYTES", "PairedTable", "stream_pairs"]

REST_BYTES = 24 << 20
"""Decoded bytes of rows that are collected before they are decided as a table."""
_AUDIT_ROWS = 100_000
_AUDITED = ("source", "length", "n_tied")

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


def stream_pairs(path: Path, named: Mapping[str, str], rule: PairRule, folder: Path) -> PairedTable | None:
    """Pairs the candidates of a table.

    Args:
        path: the table.
        named: role → name of the column.
        rule: how chosen and rejected are picked.
        folder: an empty one for rows that wait on disk; the caller deletes it.

    Returns:
        None where the table's columns are of types that only the way through memory reads.

    Raises:
        InputError: the table can't be read.
    """
    if not can_stream(path, named):
        return None
    try:
        table = ParquetTable(path, named)
        work = _Work(table, rule, folder / "clustered")
        try:
            work.pieces(table.clustered(), strict=True)
        except _Scattered:
            shutil.rmtree(folder / "clustered")
            work = _Work(table, rule, folder / "scattered")
            work.pieces(table.gathered(folder), strict=False)
        return work.result()
    except (pa.ArrowException, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{str(path)!r} is not a whole Parquet file: {first}", hint="copy the file again") from error


class _Work:
    """Everything that adds up over the pieces of one table."""

    def __init__(self, table: ParquetTable, rule: PairRule, folder: Path) -> None:
        self._table, self._rule = table, rule
        self._schema = pairs_schema(rule.extra_columns())
        self._fast = can_select(rule)
        self._spilled = SortedRows(folder, table.edges(), pa.schema([*self._schema, *PROMPT_CELLS]))
        self._rest: list[pa.Table] = []
        self._rest_bytes = 0
        self._audited: list[tuple[pl.DataFrame, pl.DataFrame]] = []
        self._drops: list[pl.DataFrame] = []
        self._ineligible: list[pl.DataFrame] = []
        self._counts: Counter[str] = Counter()
        self._runs = 0
        self._digest, self._auditor = CandidateDigest(), Auditor()

    def pieces(self, pieces: Iterator[Piece], *, strict: bool) -> None:
        seen = _Seen(strict=strict)
        for piece in pieces:
            self._piece(piece, seen)
            if self._rest_bytes > REST_BYTES:
                self._decide_rest()
        self._decide_rest()
        self._audit()
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
            ids = [ids[number] for number in kept.tolist()]
            prompts, plain, repeated = prompts.take(pa.array(kept)), plain[whole], repeated[whole]
            piece = piece.part(whole)
        rows = rows_of(piece, ids, plain & ~repeated, self._rule.length)
        picks = pick(self._rule, rows.answers, rows.eligible)
        certain = picks.certain & rows.plain
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
        ids = [answers.prompt_ids[run] for run in runs.tolist()]
        sizes = np.diff(np.append(answers.starts, len(answers.run)))
        pairs = pair_rows(rows, picks, runs, sizes[runs], self._schema, ids)
        prompt = {"prompt_text": prompts.take(pa.array(runs)), "prompt_json": pa.nulls(len(runs), pa.string())}
        self._spilled.add(
            pa.table([*pairs.columns, *prompt.values()], schema=pa.schema([*self._schema, *PROMPT_CELLS]))
        )
        some = np.flatnonzero(certain[answers.run])
        columns = {name: column.take(pa.array(some)) for name, column in rows.columns.items()}
        score = pa.array(answers.score[some])
        kept = sizes[runs]
        self._digest.add(ids, np.cumsum(kept) - kept, {**columns, "score": score}, text_words(answers.text, some))
        self._count(len(ids), len(some), len(some), pairs.num_rows, len(ids))
        narrow = {"prompt_id": pa.array(answers.run[some] + self._runs), "score": score}
        self._runs += len(answers.starts)
        narrow |= {"source": columns.get("source", pa.nulls(len(some), pa.string()))}
        narrow |= {"index": columns.get("index", pa.nulls(len(some), pa.int64())).cast(pa.int64())}
        narrow |= {"length": pa.array(rows.characters[some]), "repeats": pa.array(repeats(answers)[some])}
        shown = pairs.select([f"{what}_{side}" for what in _AUDITED for side in ("chosen", "rejected")])
        self._audited.append((pl.DataFrame(pl.from_arrow(pa.table(narrow))), pl.DataFrame(pl.from_arrow(shown))))
        if sum(frame.height for frame, _ in self._audited) > _AUDIT_ROWS:
            self._audit()

    def _audit(self) -> None:
        if self._audited:
            candidates, pairs = (pl.concat(frames) for frames in zip(*self._audited, strict=True))
            self._auditor.add(candidates.sort("prompt_id", maintain_order=True), pairs)
            self._audited = []

    def _decide_rest(self) -> None:
        """Decides the collected rows as `prefdata.table_pairs` decides a whole table."""
        if not self._rest:
            return
        frame = pl.DataFrame(pl.from_arrow(pa.concat_tables(self._rest)))
        self._rest, self._rest_bytes = [], 0
        scored = from_frame(self._table.path, self._table.named, frame)
        candidates = scored.candidates.sort(pl.all(), nulls_last=False)
        paired = self._rule.pair(candidates, scored.prompts["prompt_id"])
        self._digest.add_frame(candidates)
        self._auditor.add(candidates, paired.pairs)
        pairs = checked(paired.pairs.to_arrow(), self._schema, PAIR_KEY, "pairs")
        shown = dict(scored.prompts.iter_rows())
        texts = [as_cells(shown[name]) for name in pairs["prompt_id"].to_pylist()]
        for number, (name, kind) in enumerate(PROMPT_CELLS):
            pairs = pairs.append_column(name, pa.array([cells[number] for cells in texts], kind))
        self._spilled.add(pairs)
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
            texts, turns = table["prompt_text"].combine_chunks(), table["prompt_json"]
            pairs = checked(table.drop_columns([name for name, _ in PROMPT_CELLS]), self._schema, PAIR_KEY, "pairs")
            prompts = {"prompt_id": pairs["prompt_id"], "messages": as_messages(texts, turns)}
            origin = pa.repeat(pa.scalar(""), table.num_rows)
            yield TRLPairs().rows(pairs, pa.table({**prompts, "origin": origin}).cast(PROMPTS))


class _Seen:
    """The ids that came by, as 64-bit hashes: whether one came again in another piece."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self._hashes: list[NDArray[np.uint64]] = []
        self._count, self._next = 0, 10_000

    def add(self, ids: list[str]) -> None:
        if self.strict:
            self._hashes.append(pl.Series(ids, dtype=pl.String).hash().to_numpy())
            self._count += len(ids)
            if self._count > self._next:
                self.check()
                self._next = 2 * self._count

    def check(self) -> None:
        if self._hashes:
            self._hashes = [np.unique(np.concatenate(self._hashes))]
            if len(self._hashes[0]) != self._count:
                raise _Scattered


def _repeated(ids: list[str]) -> _Flags:
    if len(set(ids)) == len(ids):
        return np.zeros(len(ids), bool)
    counts = Counter(ids)
    return np.array([counts[name] > 1 for name in ids])


def _sorted(frames: list[pl.DataFrame], schema: pa.Schema) -> pa.Table:
    if not frames:
        return schema.empty_table()
    return pl.concat(frames).sort(pl.all(), nulls_last=False).to_arrow().cast(schema)
