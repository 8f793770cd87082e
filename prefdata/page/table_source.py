"""Anybody's table of pairs, with or without scores, and datasets of prefdata that were published without answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain, zip_longest
from os import PathLike
from pathlib import Path
from typing import Any

from prefdata.errors import InputError
from prefdata.hub import DatasetTables
from prefdata.inspection.audit import audit
from prefdata.inspection.pair_rows import Answer as Side
from prefdata.inspection.pair_rows import PairRow, shape_of
from prefdata.page.answers import TRACE_COLUMNS, PromptRows
from prefdata.page.dataset_source import split_files
from prefdata.page.described import described_dataset
from prefdata.page.measures import finding_lines
from prefdata.page.rows import Answer, PageRow, pair_values
from prefdata.page.sources import Overview
from prefdata.page.streams import file_rows, text_bytes
from prefdata.tables import files
from prefdata.tables.documents import check_regular

__all__ = ["TableSource"]

_IDS = ("prompt_id", "id", "uid", "question_id")
_TRACE = tuple(name for name in TRACE_COLUMNS if name.startswith(("n_", "decided_", "source_", "length_")))
_WHY = ("n_eligible", "n_candidates", "n_tied_chosen", "n_tied_rejected", "decided_chosen", "decided_rejected")
_VALUES = tuple(name for name in _TRACE if name != "n_eligible")


class TableSource:
    """Reads pairs as `prefdata audit` does.

    Args:
        where: as the user names it.
        tables: its files.
        title: its name.
        folder: the dataset folder, where prefdata has written it.
    """

    kind = "table"
    sides = ("chosen", "rejected")
    titles: Mapping[str, str] = {}

    def __init__(
        self, where: str | PathLike[str], tables: DatasetTables, title: str, folder: Path | None = None
    ) -> None:
        self.where, self.title, self._tables, self._folder = where, title, tables, folder
        paths = [path for each in tables.splits.values() for path in each]
        self._names = {path: files.columns(path) for path in paths}
        self._all = list(dict.fromkeys(name for each in self._names.values() for name in each))
        first = next(files.rows(paths[0])) if paths else {}
        self._shape = shape_of(repr(title), self._all, first, {})
        self._id = next((name for name in _IDS if isinstance(first.get(name), str | int)), None)
        self._made = PromptRows("no pair")

    def text_bytes(self) -> int:
        """Says about how many bytes of text there are."""
        return text_bytes(self._names)

    def rows(self) -> Iterator[PageRow]:
        """Yields every row of every split, then the dropped prompts."""
        self._made = PromptRows("no pair")
        for split, paths in self._tables.splits.items():
            rows = chain.from_iterable(self._file_rows(path) for path in paths)
            traces = self._traces(split)
            for number, (row, trace) in enumerate(zip_longest(rows, traces) if traces else ((row, {}) for row in rows)):
                if row is None or (traces and (trace is None or trace["prompt_id"] != row.get("prompt_id"))):
                    raise InputError(
                        f"the trace of {self.title!r} has other rows than its pairs",
                        hint="prefdata verify lists the differences",
                    )
                yield self._row(split, number, row, trace or row)
        if self._folder is not None and (path := self._folder / "drops.parquet").exists():
            check_regular(path, self._folder)
            for drop in file_rows([path], self._folder, ("prompt_id", "stage", "reason", "detail")):
                yield from self._made.make(drop["prompt_id"], [], [], [], [drop])

    def _file_rows(self, path: Path) -> Iterator[dict[str, Any]]:
        wanted = [*self._shape.names(), *([self._id] if self._id else []), *_TRACE]
        return files.rows(path, only=[name for name in dict.fromkeys(wanted) if name in self._names[path]])

    def _traces(self, split: str) -> Iterator[dict[str, Any]] | None:
        found = split_files(self._folder, "trace").get(split) if self._folder is not None else None
        return file_rows(found, self._folder, TRACE_COLUMNS) if found and self._folder is not None else None

    def _row(self, split: str, number: int, row: Mapping[str, Any], trace: Mapping[str, Any]) -> PageRow:
        pair = self._shape.read(row)
        key = row.get(self._id) if self._id else None
        sides = [(side, answer) for side, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)) if answer]
        answers = [_answer(answer, _score(pair, side), trace, side) for side, answer in sides]
        places = {side: place for place, (side, _) in enumerate(sides)}
        made = PageRow(
            str(key) if isinstance(key, str | int) else f"{split}-{number}",
            _turns(pair),
            answers,
            places.get("chosen"),
            places.get("rejected"),
            outcome="pair" if len(sides) == 2 else f"{sides[0][0]} only" if sides else "no answer",
        )
        known = {name: trace[name] for name in _VALUES if isinstance(trace.get(name), str | int | float)}
        made.values = {**known, "split": split}
        made.why = {name: trace[name] for name in _WHY if isinstance(trace.get(name), str | int | float)}
        pair_values(made)
        if pair.prompts_differ:
            made.flags.append("different prompts")
        self._made.outcomes["pairs", made.outcome] += 1
        return made

    def overview(self) -> Overview:
        """Describes the table by what an audit finds in it."""
        if self._folder is not None:
            return described_dataset(self._folder, self.title, self._tables.commit, self._made)
        found = audit(self.where, config=self._tables.config, show=0)
        rows = sum(found.splits.values())
        facts = [("Dataset", self.title), ("Rows", f"{rows:,}"), ("Read as", found.read_as)]
        facts += [("Revision", self._tables.commit)] if self._tables.commit else []
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


def _answer(side: Side, score: float | None, trace: Mapping[str, Any], name: str) -> Answer:
    source, index, model = (trace.get(f"{what}_{name}") for what in ("source", "index", "model"))
    return Answer(
        source if isinstance(source, str) else None,
        index if isinstance(index, int) else None,
        model if isinstance(model, str) else None,
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
