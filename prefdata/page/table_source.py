"""Anybody's table of pairs, with or without scores, and datasets of prefdata that were published without answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from prefdata.errors import InputError
from prefdata.inspection.audit import AuditedTable
from prefdata.inspection.meanings import finding_lines
from prefdata.inspection.pair_rows import PairRow
from prefdata.inspection.turns import Answer as Side
from prefdata.page.answers import LIST_COLUMNS, TRACE_COLUMNS, WHY_COLUMNS, PromptRows, of_rule
from prefdata.page.dataset_source import split_files
from prefdata.page.described import described_dataset
from prefdata.page.flags import duplicates_of
from prefdata.page.rows import Answer, PageRow, pair_values
from prefdata.page.sources import Overview
from prefdata.page.streams import file_rows, text_bytes

__all__ = ["TableSource"]

_IDS = ("prompt_id", "id", "uid", "question_id")


class TableSource:
    """Reads pairs as `prefdata audit` does.

    Args:
        where: as the user names it.
        title: its name.
        config: the configuration of a dataset that prefdata has not written.
        folder: the dataset folder, where prefdata has written it.
    """

    kind = "table"
    sides = ("chosen", "rejected")
    titles: Mapping[str, str] = {}

    def __init__(
        self, where: str | PathLike[str], title: str, config: str | None = None, folder: Path | None = None
    ) -> None:
        self.title, self._folder = title, folder
        self._table = AuditedTable(where, config=config, more=(*_IDS, *LIST_COLUMNS, *WHY_COLUMNS))
        self._made = PromptRows("no pair")

    def text_bytes(self) -> int:
        """Says about how many bytes of text there are."""
        return text_bytes(path for path in self._table.names if isinstance(path, Path))

    def rows(self) -> Iterator[PageRow]:
        """Yields every row of every split, then the dropped prompts."""
        self._made = PromptRows("no pair", duplicates_of(self._drops()))
        trace: dict[str, Iterator[dict[str, Any]] | None] = {}
        for split, number, row, pair in self._table.rows():
            if split not in trace:
                trace[split] = self._traces(split)
            traces = trace[split]
            of_rule = row if traces is None else next(traces, {})
            if traces is not None and of_rule.get("prompt_id") != row.get("prompt_id"):
                raise InputError(
                    f"the trace of {self.title!r} has other rows than its pairs",
                    hint="prefdata verify lists the differences",
                )
            yield self._row(split, number, row, pair, of_rule)
        for drop in self._drops():
            yield from self._made.make(drop["prompt_id"], [], [], [], [drop])

    def _drops(self) -> Iterator[dict[str, Any]]:
        if self._folder is not None and (path := self._folder / "drops.parquet").exists():
            yield from file_rows([path], self._folder, ("prompt_id", "stage", "reason", "detail"))

    def _traces(self, split: str) -> Iterator[dict[str, Any]] | None:
        found = split_files(self._folder, "trace").get(split) if self._folder is not None else None
        return file_rows(found, self._folder, TRACE_COLUMNS) if found and self._folder is not None else None

    def _row(self, split: str, number: int, row: Mapping[str, Any], pair: PairRow, trace: Mapping[str, Any]) -> PageRow:
        key = next((row[name] for name in _IDS if isinstance(row.get(name), str | int)), None)
        sides = [(side, answer) for side, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)) if answer]
        answers = [_answer(answer, _score(pair, side), trace, side) for side, answer in sides]
        answers += [_answer(pair.unlabelled, None, {}, "")] if pair.unlabelled else []
        places = {side: place for place, (side, _) in enumerate(sides)}
        made = PageRow(
            str(key) if isinstance(key, str | int) else f"{split}-{number}",
            _turns(pair),
            answers,
            places.get("chosen"),
            places.get("rejected"),
            outcome=_outcome(pair, [side for side, _ in sides]),
        )
        made.values = {**of_rule(trace, LIST_COLUMNS), "split": split}
        made.why = of_rule(trace, WHY_COLUMNS)
        pair_values(made)
        made.flags += self._made.flags.get(made.prompt_id, ())
        if pair.prompts_differ:
            made.flags.append("different prompts")
        self._made.outcomes["pairs", made.outcome] += 1
        return made

    def overview(self) -> Overview:
        """Describes the table by what an audit finds in it."""
        if self._folder is not None:
            return described_dataset(self._folder, self.title, self._table.tables.commit, self._made)
        found = self._table.report()
        rows = sum(found.splits.values())
        facts = [("Dataset", self.title), ("Rows", f"{rows:,}"), ("Read as", found.read_as)]
        facts += [("Revision", self._table.tables.commit)] if self._table.tables.commit else []
        facts += [("Prompts", f"{found.prompts:,}")] if found.prompts is not None else []
        facts += [("Splits", ", ".join(f"{name} {count:,}" for name, count in found.splits.items()))]
        if found.chosen_longer is not None:
            facts.append(
                ("Chosen is longer", f"{100 * found.chosen_longer:.1f} % of the pairs that are not equally long")
            )
        if not found.scored:
            facts.append(("Scores", "none"))
        overview = Overview(facts)
        overview.verdict = (
            "open",
            "This dataset has no record of how its pairs were made, so nothing can be verified.",
        )
        overview.measures = finding_lines(found.findings, rows)
        overview.tables = [_spreads(found.lengths, found.margins)]
        return overview


def _outcome(pair: PairRow, sides: Sequence[str]) -> str:
    if len(sides) == 2:
        return "pair"
    return f"{sides[0]} only" if sides else "no label" if pair.no_label else "no answer"


def _answer(side: Side, score: float | None, trace: Mapping[str, Any], name: str) -> Answer:
    source, index = (trace.get(f"{what}_{name}") for what in ("source", "index"))
    return Answer(
        source if isinstance(source, str) else None,
        index if isinstance(index, int) else None,
        None,
        side.whole,
        score,
        len(side.text),
    )


def _score(pair: PairRow, side: str) -> float | None:
    return pair.score_chosen if side == "chosen" else pair.score_rejected


def _turns(pair: PairRow) -> list[tuple[str, str]]:
    if pair.prompt is None:
        return [("", pair.prompt_text)] if pair.prompt_text else []
    return [(role, text) for role, text in json.loads(pair.prompt)]


def _spreads(lengths: Mapping[str, Mapping[str, float]], margins: Mapping[str, float]) -> dict[str, Any]:
    named = {
        **{f"length, {side}": points for side, points in lengths.items()},
        **({"margin": margins} if margins else {}),
    }
    heads = ["mean", "p10", "p50", "p90"]
    rows = [[name, *(f"{points.get(head, 0):,.6g}" for head in heads)] for name, points in named.items()]
    return {"title": "Lengths in characters, and margins", "head": ["", *heads], "rows": rows}
