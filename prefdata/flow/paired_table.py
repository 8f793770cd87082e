"""Pairs the candidates of a table of any size, in any order, in bounded memory.

A piece holds all rows of its prompts. Its rows become facts, the rule decides on these, and the texts of the winners
are taken from the piece in hand. Where the rows of a prompt are apart, the table is read twice: the facts of all rows
and the prompts first, then the texts of the winners. Answers that may differ in white space only are read in between.
Decided rows wait on disk, in buckets of neighbouring ids, until they are written in order.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefdata.dataset import Layout, TRLPairs, rows_of
from prefdata.dataset.measures import Auditor
from prefdata.lazy import np, pa, pl
from prefdata.pairing import PairRule
from prefdata.pairing.facts import FACTS, SUMS, alike, bare_of_marks, facts_of
from prefdata.spec import JSON
from prefdata.tables.ahead import ahead
from prefdata.tables.answers import ANSWER_ORDER
from prefdata.tables.digest import NAMED_FROM, CandidateDigest, bare_digest_series
from prefdata.tables.pieces import (
    PIECE_BYTES,
    ScatteredError,
    buckets_for,
    clustered,
    cuts,
    detached,
    gathered,
    key_buckets,
)
from prefdata.tables.reasoning import answers_of
from prefdata.tables.schemas import (
    ANSWERS,
    CANDIDATE_DROPS,
    DROPS,
    PAIR_KEY,
    PROMPTS,
    checked,
    frame_of,
    pairs_schema,
    table_of,
    trace_of,
)
from prefdata.tables.scored_table import ScoredTableFile, prompts_of, with_keys, with_names
from prefdata.tables.spill import Spill, edges_of, range_buckets
from prefdata.tables.table_prompts import described_prompts

__all__ = ["PairedTable", "paired_table"]

_ROWS = 2_000
"""Rows of the tables that are handed out; a multiple of a row group's."""
_PAIR_BYTES = 256 << 20
"""Decoded bytes of a table whose pairs make one bucket."""
_FACT_BYTES = 136
"""About what the facts of a row take in memory."""
_FACTS_BYTES = 48 << 20
"""Bytes of facts that make one bucket."""
_DECIDED_ROWS = 40_000
"""Rows of facts that are decided at a time."""
_ANSWER = tuple(name for name in ANSWERS.names if name != "prompt")
_KEYED = ("key", "content", "at", "is_answer", "misaligned", "blank_id")


@dataclass(frozen=True)
class PairedTable:
    """What became of a table: see `prefdata.tables.scored_table` and `prefdata.pairing.Paired`."""

    rows: Iterator[pa.Table]
    """The dataset's rows in order; can be read once, while the folder of the spilled rows is there."""
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
    trace: Iterable[pa.Table] | None = None
    """The trace of every pair, where the layout's rows don't hold it."""
    also: Mapping[str, Iterable[pa.Table]] = field(default_factory=dict)
    """Name of each further layout → its rows."""
    prompt_ids: Sequence[str] = ()
    """All prompts that can be paired, where the layout holds some out."""
    named: bool = False
    """Whether answers without a name got one: see `prefdata.tables.scored_table.with_names`."""


def paired_table(
    table: ScoredTableFile,
    rule: PairRule,
    folder: Path,
    *,
    with_candidates: bool = False,
    layouts: Sequence[Layout] = (TRLPairs(),),
) -> PairedTable:
    """Pairs the candidates of a table.

    Args:
        table: the table.
        rule: how chosen and rejected are picked.
        folder: an empty one for rows that wait on disk; the caller deletes it.
        with_candidates: also keep every answer with its score.
        layouts: that of the rows, then those of further tables of the same pairs.

    Raises:
        InputError: the table can't be read.
    """
    keeps = with_candidates or any(layout.needs_answers for layout in layouts)
    count = buckets_for(table.n_bytes, _PAIR_BYTES // (4 if keeps else 1))
    edges = edges_of(table.sampled_ids(), count) if count > 1 else []
    work = _Work(rule, folder / "clustered", edges, keeps, layouts)
    try:
        work.decide_pieces(clustered(table))
        return work.result(work.rows, with_candidates=with_candidates)
    except ScatteredError:
        shutil.rmtree(folder / "clustered")
    work = _Work(rule, folder / "decided", edges, keeps, layouts)
    if keeps or rule.needs_texts() or len(layouts) > 1 or not layouts[0].traced:
        work.decide_pieces(gathered(table, folder / "gathered"))
        return work.result(work.rows, with_candidates=with_candidates)
    return work.result(_TwoReadings(table, work, folder / "facts").rows)


class _Work:
    """Everything that adds up over the pieces of one table."""

    def __init__(
        self, rule: PairRule, folder: Path, edges: list[str], with_candidates: bool, layouts: Sequence[Layout]
    ) -> None:
        self.rule, self.edges, self.layouts = rule, edges, layouts
        self._prompt_ids: list[pl.Series] = []
        self._named = False
        self.schema = pairs_schema(rule.extra_columns())
        self.pairs = Spill(folder / "pairs", len(edges) + 1)
        self._answers = Spill(folder / "answers", len(edges) + 1) if with_candidates else None
        self._asked = Spill(folder / "asked", len(edges) + 1) if with_candidates else None
        self._drops: list[pl.DataFrame] = []
        self._ineligible: list[pl.DataFrame] = []
        self._counts: Counter[str] = Counter()
        self._digest, self._auditor = CandidateDigest(), Auditor()

    def decide_pieces(self, pieces: Iterable[pl.DataFrame]) -> None:
        """Decides the prompts of pieces, whose texts are in hand."""
        for piece, prompts in ahead((piece, prompts_of(piece)) for piece in pieces):
            facts, pairs = self.decide(piece, prompts, ("response", "at"))
            self._put(self.pairs, pairs.drop("at_chosen", "at_rejected", "white_space_only", strict=False))
            if self._answers is not None and self._asked is not None:
                self._put(self._answers, facts.select(*_ANSWER, "digest"))
                self._put(self._asked, prompts.filter(pl.col("reason").is_null()).select("prompt_id", "messages"))

    def decide(
        self, rows: pl.DataFrame, prompts: pl.DataFrame, of_answer: Sequence[str]
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Decides prompts, and counts what became of them.

        Args:
            rows: all rows of the prompts, as they were read or as facts.
            prompts: see `prefdata.tables.scored_table.prompts_of`.
            of_answer: the columns of `rows` that pairs have for both answers; `at` is one of them.

        Returns:
            The facts of the candidates of all prompts that can be paired, and the pairs with `messages`.
        """
        is_usable = pl.col("reason").is_null()
        usable, refused = prompts.filter(is_usable).sort("prompt_id"), prompts.filter(~is_usable)
        answers = with_names(rows.drop("prompt", strict=False).filter("is_answer"))
        candidates = _in_order(answers, usable)
        facts = candidates if "unfit" in candidates.columns else facts_of(self.rule, candidates)
        paired = self.rule.pair(facts.select(*FACTS, *of_answer), usable["prompt_id"])
        self._named |= bool((facts["index"] >= NAMED_FROM).any())
        if self.layouts[0].test_size:
            self._prompt_ids.append(usable["prompt_id"])
        self._digest.add(facts)
        self._auditor.add(facts, paired.pairs)
        lost = refused.select("prompt_id", pl.lit("prompts").alias("stage"), "reason", "detail")
        self._drops += [detached(lost), detached(paired.drops)]
        self._ineligible.append(detached(paired.ineligible))
        self._counts.update(
            prompts=prompts.height,
            candidates=answers.height,
            usable=facts.height,
            pairs=paired.pairs.height,
            paired_prompts=paired.pairs["prompt_id"].n_unique(),
        )
        asked = usable.select("prompt_id", "messages")
        return facts, paired.pairs.join(asked, on="prompt_id", how="left", maintain_order="left")

    def _put(self, spill: Spill, rows: pl.DataFrame) -> None:
        spill.add(rows, range_buckets(rows["prompt_id"], self.edges))

    def rows(self) -> Iterator[pl.DataFrame]:
        """Yields the pairs with their texts and `messages`, a bucket at a time, in the order of their ids."""
        for number in range(self.pairs.count):
            bucket = self.pairs.read(number)
            if bucket is not None:
                yield bucket.sort(PAIR_KEY)

    def result(self, rows: Callable[[], Iterator[pl.DataFrame]], *, with_candidates: bool = False) -> PairedTable:
        """Adds everything up; `rows` are read when the table's rows are, once for each table that is made of them."""
        counts = self._counts
        layout, *further = self.layouts
        return PairedTable(
            ahead(self._layout_rows(rows(), layout)),
            counts["pairs"],
            counts["paired_prompts"],
            counts["prompts"],
            counts["candidates"],
            counts["usable"],
            _sorted(self._drops, DROPS),
            _sorted(self._ineligible, CANDIDATE_DROPS),
            self._digest.hexdigest(),
            self._auditor.result(),
            ahead(self._answer_rows()) if with_candidates else None,
            None if layout.traced else (trace_of(pairs) for pairs, _ in self._tables(rows())),
            {other.config_name: self._layout_rows(rows(), other) for other in further},
            pl.concat(self._prompt_ids).to_list() if self._prompt_ids else (),
            self._named,
        )

    def _layout_rows(self, buckets: Iterator[pl.DataFrame], layout: Layout) -> Iterator[pa.Table]:
        for pairs, prompts in self._tables(buckets):
            answers = self._answers_to(pairs) if layout.needs_answers else None
            yield rows_of(layout, pairs, prompts, answers)

    def _tables(self, buckets: Iterator[pl.DataFrame]) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Yields pairs and their prompts; one empty table of each where there are none."""
        count = 0
        for bucket in buckets:
            count += bucket.height
            for part in bucket.iter_slices(_ROWS):
                table = table_of(part)
                pairs = checked(table.select(self.schema.names), self.schema, PAIR_KEY, "pairs")
                yield pairs, pa.table({"prompt_id": pairs["prompt_id"], "messages": table["messages"]})
        if not count:
            yield self.schema.empty_table(), PROMPTS.empty_table()

    def _answers_to(self, pairs: pa.Table) -> pa.Table:
        """Returns all answers to the prompts of some pairs, in order."""
        assert self._answers is not None
        ids = pl.Series(pl.from_arrow(pairs["prompt_id"])).unique()
        rows = [self._sorted_answers(number, ids) for number in range_buckets(ids, self.edges).unique().sort()]
        return pl.concat(rows).to_arrow().cast(ANSWERS) if rows else ANSWERS.empty_table()

    def _sorted_answers(self, number: int, ids: pl.Series | None = None) -> pl.DataFrame:
        assert self._answers is not None
        assert self._asked is not None
        bucket, asked = self._answers.read(number), self._asked.read(number)
        if bucket is None or asked is None:
            return frame_of(ANSWERS.empty_table())
        if ids is not None:
            bucket = bucket.filter(pl.col("prompt_id").is_in(ids.implode()))
        rows = bucket.sort(ANSWER_ORDER).join(
            asked.rename({"messages": "prompt"}), on="prompt_id", how="left", maintain_order="left"
        )
        return rows.select(ANSWERS.names)

    def _answer_rows(self) -> Iterator[pa.Table]:
        assert self._answers is not None
        yield ANSWERS.empty_table()
        for number in range(self._answers.count):
            for part in self._sorted_answers(number).iter_slices(_ROWS):
                yield table_of(part).cast(ANSWERS)


class _TwoReadings:
    """Pairs of a table in any order: facts and prompts from the first reading, texts of winners from the second."""

    def __init__(self, table: ScoredTableFile, work: _Work, folder: Path) -> None:
        self._table, self._work = table, work
        self._folder = folder
        n_rows = self._read_facts()
        self._same_text = self._read_alike(n_rows)
        # One more than the bucket of each row whose answer is wanted; 0 for the others.
        self._wanted = np.zeros(n_rows, np.uint8)
        for number in range(self._facts.count):
            self._decide(number)

    def rows(self) -> Iterator[pl.DataFrame]:
        """Yields what `_Work.rows` does."""
        count = self._work.pairs.count
        spill = Spill(self._folder / "answers", count)
        for frame in ahead(self._table.frames(PIECE_BYTES, ())):
            buckets = self._wanted[int(frame["at"][0]) : int(frame["at"][-1]) + 1]
            is_wanted = buckets > 0
            if is_wanted.any():
                rows = frame.select("at", "response").filter(pl.Series(is_wanted))
                spill.add(rows, pl.Series(buckets[is_wanted].astype(np.uint32) - 1))
        for number in range(count):
            pairs, answers = self._work.pairs.read(number), spill.read(number)
            if pairs is None or answers is None:
                continue
            pairs = pairs.sort(PAIR_KEY)
            for side in ("chosen", "rejected"):
                texts = answers.rename({"at": f"at_{side}", "response": f"response_{side}"})
                pairs = pairs.join(texts, on=f"at_{side}", how="left", maintain_order="left")
            yield pairs

    def _read_facts(self) -> int:
        table, rule = self._table, self._work.rule
        n_rows, seen = 0, _FirstRows()
        spills: tuple[Spill, Spill] | None = None
        frames = table.frames(PIECE_BYTES, sums=SUMS)
        for rows in ahead(with_keys(frame, has_ids=table.has_ids) for frame in frames):
            n_rows += rows.height
            facts = facts_of(rule, rows.with_columns(pl.col("prompt_id").fill_null("")), whole=False)
            facts = facts.select(*(name for name in FACTS if name != "prompt_id"), *_KEYED)
            new = rows.filter(pl.Series(seen.of(rows["key"].to_numpy(), rows["content"].is_null().to_numpy())))
            described = described_prompts(new["prompt"], with_ids=bool(new["prompt_id"].null_count()))
            described = described.rename({"prompt_id": "made"})
            described = pl.concat([new.select("key", "at", "content", given="prompt_id"), described], how="horizontal")
            described = described.with_columns(prompt_id=pl.coalesce("given", "made")).drop("given", "made")
            if spills is None:
                # Of the first rows nearly each has a new prompt, so that the buckets of prompts will be smaller.
                such_frames = table.n_bytes / max(1, rows.estimated_size())
                n_bytes = max(rows.height * _FACT_BYTES, described.estimated_size() / 2)
                count = buckets_for(n_bytes * such_frames, _FACTS_BYTES)
                spills = Spill(self._folder / "facts", count), Spill(self._folder / "described", count)
            spills[0].add(facts, key_buckets(facts["key"], spills[0].count))
            spills[1].add(described, key_buckets(described["key"], spills[1].count))
        assert spills is not None
        self._facts, self._described = spills
        return n_rows

    def _read_alike(self, n_rows: int) -> pl.DataFrame:
        """Hashes, without white space, the answers that may differ from others in it only; few tables have any."""
        wanted = np.zeros(n_rows, bool)
        for number in range(self._facts.count):
            if (rows := self._facts.read(number)) is not None:
                wanted[alike(rows)["at"].to_numpy()] = True
        found = [pl.DataFrame(schema={"at": pl.UInt32, "bare": pl.UInt64})]
        for frame in ahead(self._table.frames(PIECE_BYTES, ())) if wanted.any() else ():
            rows = frame.filter(pl.Series(wanted[int(frame["at"][0]) : int(frame["at"][-1]) + 1]))
            found.append(rows.select("at", bare=bare_digest_series(answers_of(rows["response"]))))
        return pl.concat(found)

    def _decide(self, number: int) -> None:
        rows, described = self._facts.read(number), self._described.read(number)
        if rows is None or described is None:
            return
        described = described.sort(pl.col("content").is_null(), "at").unique("key", keep="first", maintain_order=True)
        ids = described.select("key", "prompt_id")
        rows = bare_of_marks(rows, self._same_text)
        rows = rows.sort("key", "at").join(ids, on="key", how="left", maintain_order="left")
        for start, end in cuts(rows["key"].to_numpy(), _DECIDED_ROWS):
            part = rows[start:end]
            _, pairs = self._work.decide(part, prompts_of(part, described), ["at"])
            buckets = range_buckets(pairs["prompt_id"], self._work.edges)
            self._work.pairs.add(pairs, buckets)
            marks = buckets.to_numpy().astype(np.uint8) + 1
            for name in ("at_chosen", "at_rejected"):
                self._wanted[pairs[name].to_numpy()] = marks


class _FirstRows:
    """Which rows are the first of their prompt, over the frames of a table."""

    def __init__(self) -> None:
        self._sorted = np.zeros(0, np.uint64)
        self._recent: list[np.ndarray] = []

    def of(self, keys: np.ndarray, without: np.ndarray) -> np.ndarray:
        """Returns True for the first row of each key; rows without a prompt count apart from those with one."""
        keys = keys ^ without.astype(np.uint64)
        names, first = np.unique(keys, return_index=True)
        for known in (self._sorted, *self._recent):
            if len(known):
                place = np.minimum(np.searchsorted(known, names), len(known) - 1)
                new = known[place] != names
                names, first = names[new], first[new]
        self._recent.append(names)
        if sum(map(len, self._recent)) > len(self._sorted) // 4:
            self._sorted = np.sort(np.concatenate([self._sorted, *self._recent]))
            self._recent = []
        is_first = np.zeros(len(keys), bool)
        is_first[first] = True
        return is_first


def _in_order(answers: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    """The answers to prompts (sorted by their ids), with these ids, sorted by prompt, source and index."""
    # By numbers, and one column at a time: all that follows would sort long ids and carry texts otherwise.
    ranks = prompts.select("key", "prompt_id").with_row_index("rank")
    placed = answers.select("key", "source", "index").join(ranks, on="key", how="left", maintain_order="left")
    order = placed.select(pl.arg_sort_by("rank", "source", "index", maintain_order=True)).to_series()
    return answers.with_columns(placed["prompt_id"])[order[placed["rank"].null_count() :]]


def _sorted(frames: list[pl.DataFrame], schema: pa.Schema) -> pa.Table:
    if not frames:
        return schema.empty_table()
    return pl.concat(frames).sort(pl.all(), nulls_last=False).to_arrow().cast(schema)
