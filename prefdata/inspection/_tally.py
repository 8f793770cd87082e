"""Adds up what the pairs of a table show, a row at a time; keys of rows wait on disk."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from prefdata.inspection.pair_rows import PairRow
from prefdata.inspection.turns import Answer
from prefdata.lazy import pl
from prefdata.tables.digest import same_but_white_space
from prefdata.tables.spill import Spill

Place: TypeAlias = tuple[str, int]
"""Split and row."""

_BUCKETS = 64
_BLOCK = 5_000
_EXAMPLES = 3
_SCHEMA: dict[str, Any] = {
    "prompt": pl.String,
    "pair": pl.String,
    "turned": pl.Boolean,
    "split": pl.Int32,
    "row": pl.Int64,
    "bucket": pl.Int64,
}


class Tally:
    """Counts findings over all rows of all splits.

    Args:
        folder: for keys that wait; the caller deletes it.
        splits: names of the splits.
    """

    def __init__(self, folder: Path, splits: Sequence[str]) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[Place]] = {}
        self.lengths: dict[str, Counter[int]] = {side: Counter() for side in ("chosen", "rejected", "difference")}
        self.margins: Counter[float] = Counter()
        self._splits = list(splits)
        self._spill = Spill(folder / "keys", _BUCKETS)
        self._waiting: list[tuple[str, str, bool | None, int, int, int]] = []

    def find(self, what: str, place: Place) -> None:
        """Counts a finding, and keeps the places of the first few."""
        self.counts[what] += 1
        kept = self.examples.setdefault(what, [])
        if len(kept) < _EXAMPLES:
            kept.append(place)

    def add(self, row: PairRow, place: Place, *, paired: bool) -> None:
        """Adds a row."""
        self.counts["rows"] += 1
        sides = (row.chosen, row.rejected)
        present = [side for side in (*sides, row.unlabelled) if side is not None]
        if len(present) < (2 if paired else 1):
            self.find("missing_text", place)
        if any(not side.text.strip() for side in present if not side.unfinished):
            self.find("blank_text", place)
        if row.no_label:
            self.find("missing_label", place)
        if any(side.unfinished for side in present):
            self.find("unfinished_thinking", place)
        for side, answer in zip(("chosen", "rejected"), sides, strict=True):
            if answer is not None:
                self.counts[f"thinking_{side}"] += answer.thought
                if not answer.unfinished:
                    self.lengths[side][len(answer.text)] += 1
        if row.prompts_differ:
            self.find("different_prompts", place)
        if row.chosen is not None and row.rejected is not None:
            self._add_pair(row.chosen, row.rejected, place)
            self._add_scores(row, place)
        self._add_keys(row, place)

    def _add_pair(self, chosen: Answer, rejected: Answer, place: Place) -> None:
        self.counts["pairs"] += 1
        if chosen.thought != rejected.thought:
            self.find("thinking_on_one_side", place)
        if chosen.unfinished or rejected.unfinished:
            # There is no answer to compare.
            return
        self.counts["compared"] += 1
        if chosen.text == rejected.text:
            self.find("identical_texts", place)
        elif same_but_white_space(chosen.text, rejected.text):
            self.find("identical_but_white_space", place)
        difference = len(chosen.text) - len(rejected.text)
        self.lengths["difference"][difference] += 1
        self.counts["chosen_longer"] += difference > 0
        self.counts["equally_long"] += difference == 0

    def _add_scores(self, row: PairRow, place: Place) -> None:
        if row.score_chosen is None or row.score_rejected is None:
            self.counts["unscored"] += 1
            return
        margin = row.score_chosen - row.score_rejected
        self.counts["scored"] += 1
        self.margins[round(margin, 4)] += 1
        if margin == 0:
            self.find("tied_scores", place)
        elif margin < 0:
            self.find("reversed_scores", place)

    def _add_keys(self, row: PairRow, place: Place) -> None:
        prompt = "" if row.prompt is None else _digest(row.prompt)
        self.counts["without_prompt"] += row.prompt is None
        # Without an end of its reasoning there is no answer, and the reasoning is what differs.
        sides = (row.chosen, row.rejected, row.unlabelled)
        texts = ["" if side is None else side.whole if side.unfinished else side.text for side in sides]
        one, other, unlabelled = (_digest(text) for text in texts)
        turned: bool | None
        if row.no_label:
            turned, pair = None, unlabelled
        elif row.chosen is None or row.rejected is None:
            # Of a single answer the side is its label.
            turned, pair = row.chosen is None, other if row.chosen is None else one
        else:
            turned, pair = one > other, "".join(sorted((one, other)))
        bucket = int((prompt or pair)[:8], 16) % _BUCKETS
        self._waiting.append((prompt, pair, turned, self._splits.index(place[0]), place[1], bucket))
        if len(self._waiting) >= _BLOCK:
            self._put()

    def _put(self) -> None:
        if self._waiting:
            frame = pl.DataFrame(self._waiting, _SCHEMA, orient="row")
            self._spill.add(frame.drop("bucket"), frame["bucket"])
            self._waiting = []

    def finish(self) -> None:
        """Compares rows with each other: what is there twice, contradicts another row, or is in two splits."""
        self._put()
        for keys in filter(None, map(self._read, range(_BUCKETS))):
            self._compare(keys[0])

    def _read(self, number: int) -> list[pl.DataFrame]:
        frame = self._spill.read(number)
        return [] if frame is None else [frame.sort("split", "row")]

    def _compare(self, keys: pl.DataFrame) -> None:
        prompts = keys.filter(pl.col("prompt") != "")
        self.counts["prompts"] += prompts["prompt"].n_unique()
        self._find_rows("repeated_prompts", prompts.filter(~pl.struct("prompt", "split").is_first_distinct()))
        self._find_rows("repeated_rows", keys.filter(~pl.struct("prompt", "pair", "turned").is_first_distinct()))
        # A row without a label contradicts none.
        keys = keys.drop_nulls("turned")
        both = pl.col("turned").n_unique().over("prompt", "pair") > 1
        same = pl.col("pair").str.head(32) == pl.col("pair").str.tail(32)
        two_texts = pl.col("pair").str.len_chars() > 32
        against = keys.filter(both & ~(two_texts & same))
        self._find_rows("contradictions", against.unique(["prompt", "pair"], keep="last", maintain_order=True))
        several = prompts.filter(pl.col("split").n_unique().over("prompt") > 1)
        self._find_rows("prompts_in_several_splits", several.unique("prompt", keep="last", maintain_order=True))

    def _find_rows(self, what: str, rows: pl.DataFrame) -> None:
        self.counts[what] += rows.height
        found = [(self._splits[split], row) for split, row in rows.select("split", "row").head(_EXAMPLES).iter_rows()]
        kept = [*self.examples.get(what, ()), *found]
        if kept:
            self.examples[what] = sorted(kept, key=lambda place: (self._splits.index(place[0]), place[1]))[:_EXAMPLES]


def spread(values: Counter[Any]) -> dict[str, float]:
    """Computes mean, p10, median and p90 of counted values; empty without any."""
    total = values.total()
    if not total:
        return {}
    points = {"mean": sum(value * count for value, count in sorted(values.items())) / total}
    for quantile in (10, 50, 90):
        rank, seen = round((total - 1) * quantile / 100), 0
        for value, count in sorted(values.items()):
            seen += count
            if seen > rank:
                points[f"p{quantile}"] = float(value)
                break
    return {name: round(value, 3) for name, value in points.items()}


def blocks(rows: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Yields the rows in lists."""
    block: list[Any] = []
    for row in rows:
        block.append(row)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
