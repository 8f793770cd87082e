"""`audit`: what is wrong or remarkable in the pairs of any preference dataset, with or without scores.

Every row is read once; memory holds counts and one block of rows, keys of rows wait in a temporary folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefdata.errors import InputError, NoRowsError
from prefdata.hub import name_of
from prefdata.inspection._files import tables_of
from prefdata.inspection._tally import Tally, blocks, spread
from prefdata.inspection.meanings import FINDINGS, percent, spread_rows
from prefdata.inspection.pair_rows import PairRow, PairShape, shape_of
from prefdata.models.tokens import exact_tokenizer
from prefdata.spec.pages import page
from prefdata.tables import files
from prefdata.tables.files import TableLike
from prefdata.tables.table import Table

__all__ = ["AuditedTable", "TableAudit", "audit"]

_BLOCK = 500


@dataclass
class TableAudit:
    """What an audit has found. Shares are between 0 and 1, and None where there is nothing to measure."""

    table: str
    read_as: str
    """The layout that was recognised."""
    columns: dict[str, str]
    """Role → column."""
    config: str | None
    splits: dict[str, int]
    """Split → rows."""
    pairs: int = 0
    """Rows with both answers."""
    prompts: int | None = None
    """Number of different prompts; None where rows do not show theirs."""
    scored: int = 0
    """Pairs with two scores."""
    findings: dict[str, int] = field(default_factory=dict)
    """Finding → rows, or prompts: `FINDINGS` defines each. Those that were not looked for are left out."""
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Finding → split and row (from 0) of the first few."""
    chosen_longer: float | None = None
    """Share of pairs whose chosen answer has more characters, of those that are not equally long."""
    lengths: dict[str, dict[str, float]] = field(default_factory=dict)
    """`chosen`, `rejected`, `difference` → mean, p10, median, p90, in characters, without reasoning."""
    margins: dict[str, float] = field(default_factory=dict)
    """Mean, p10, median and p90 of the score difference."""
    thinking: dict[str, int] = field(default_factory=dict)
    """Side → answers with reasoning."""
    max_length: int | None = None
    """The limit in tokens; these are of the texts with their reasoning, without a chat template."""
    first: list[dict[str, Any]] = field(default_factory=list)
    """The first few rows as they were understood."""

    def _repr_html_(self) -> str:
        return page(
            self.table,
            {"read as": self.read_as, "pairs": self.pairs, "with two scores": self.scored, "prompts": self.prompts}
            | {f"split {split}": rows for split, rows in self.splits.items()}
            | {"chosen longer, where not equally long": percent(self.chosen_longer)},
            [("found", "rows", "meaning"), *((name, n, FINDINGS[name]) for name, n in self.findings.items())],
            spread_rows(self.lengths, self.margins),
        )


def audit(
    where: TableLike,
    *,
    config: str | None = None,
    columns: Mapping[str, str] | None = None,
    tokenizer: str | Path | None = None,
    max_length: int | None = None,
    show: int = 3,
) -> TableAudit:
    """Audits the pairs of a preference dataset of any layout, all splits of one configuration.

    Args:
        where: a file, a folder, a build, `OWNER/NAME[@REVISION]` of the Hub, a frame of pandas, Polars or Arrow, a
            `datasets.Dataset`, or split → frame.
        config: name of the configuration, where there are several and no default one.
        columns: role → name of the column, where it is not one of the usual ones: see `prefdata.inspection.pair_rows`.
        tokenizer: a model's folder or its `tokenizer.json`; counts what a training would cut.
        max_length: the limit of prompt and answer in tokens, with `tokenizer`.
        show: number of rows that are kept as they were understood.

    Raises:
        InputError: there is no such dataset, it holds no pairs, several configurations and no default one, or a label
            that is not known.
    """
    if (tokenizer is None) != (max_length is None):
        raise InputError(
            "a cut needs both a tokenizer and a length", valid="--tokenizer PATH --max-length N", hint="add the other"
        )
    encode = None if tokenizer is None else exact_tokenizer(tokenizer)
    table = AuditedTable(where, config=config, columns=columns)
    first: list[dict[str, Any]] = []
    for block in blocks(table.rows(), _BLOCK):
        for split, number, _, pair in block[: max(0, show - len(first))]:
            first.append({"split": split, "row": number, **_shown(pair)})
        if encode is not None and max_length is not None:
            table.cut(block, encode, max_length)
    report = table.report(max_length)
    report.first = first
    return report


class AuditedTable:
    """A table that is read once, and audited while its rows pass.

    Args:
        where: see `audit`.
        config: see there.
        columns: see there.
        more: further columns that rows have, where the table has them.

    Raises:
        InputError: there is no such dataset, it holds no pairs, or several configurations and no default one.
    """

    def __init__(
        self,
        where: TableLike,
        *,
        config: str | None = None,
        columns: Mapping[str, str] | None = None,
        more: Sequence[str] = (),
    ) -> None:
        self.where, self.tables = name_of(where), tables_of(where, config)
        self.names = {path: _columns(path) for paths in self.tables.splits.values() for path in paths}
        if not any(True for path, names in self.names.items() for _ in _rows(path, names[:1])):
            raise NoRowsError(f"{self.where!r} has no rows", valid="a dataset with at least one pair")
        names = list(dict.fromkeys(name for each in self.names.values() for name in each))
        self.shape = shape_of(repr(self.where), names, self._cells, columns or {})
        self._more = more
        self._tally: Tally | None = None
        self._splits: dict[str, int] = {}

    def rows(self) -> Iterator[tuple[str, int, Mapping[str, Any], PairRow]]:
        """Yields split, number, cells and meaning of every row."""
        self._splits = dict.fromkeys(self.tables.splits, 0)
        with TemporaryDirectory(prefix="prefdata-audit-") as folder:
            self._tally = tally = Tally(Path(folder), list(self.tables.splits))
            for split, number, row, pair in self._read():
                self._splits[split] += 1
                tally.add(pair, (split, number), paired=self.shape.paired)
                yield split, number, row, pair
            tally.finish()

    def _cells(self, name: str) -> Iterator[Any]:
        """Reads a column of all splits."""
        for path, names in self.names.items():
            if name in names:
                yield from (row[name] for row in _rows(path, [name]))

    def _read(self) -> Iterator[tuple[str, int, Mapping[str, Any], PairRow]]:
        wanted = list(dict.fromkeys([*self.shape.names(), *self._more]))
        for split, paths in self.tables.splits.items():
            of_split = f", split {split!r}" if len(self.tables.splits) > 1 else ""
            # Splits and files need not have the same columns.
            only = {path: [name for name in wanted if name in self.names[path]] for path in paths}
            rows = chain.from_iterable(_rows(path, only[path]) for path in paths)
            for number, row in enumerate(rows):
                yield split, number, row, self.shape.read(row, f"{of_split}, row {number + 1}")

    def cut(self, block: Sequence[tuple[str, int, Mapping[str, Any], PairRow]], encode: Any, most: int) -> None:
        """Counts the rows of a block that a training with a limit would cut."""
        assert self._tally is not None
        texts: list[str] = []
        for *_, pair in block:
            texts.append(pair.prompt_text)
            texts += ["" if answer is None else answer.whole for answer in (pair.chosen, pair.rejected)]
        ids = encode(texts)
        for position, (split, number, _, pair) in enumerate(block):
            prompt, *sides = ids[3 * position : 3 * position + 3]
            room = max(0, most - len(prompt))
            if len(prompt) >= most:
                self._tally.find("prompt_fills_the_limit", (split, number))
            if max(map(len, sides)) > room:
                self._tally.find("longer_than_the_limit", (split, number))
            paired = pair.chosen is not None and pair.rejected is not None
            if paired and sides[0] != sides[1] and sides[0][:room] == sides[1][:room]:
                self._tally.find("same_after_the_cut", (split, number))

    def report(self, max_length: int | None = None) -> TableAudit:
        """Gives what was found in the rows, all of which have passed."""
        assert self._tally is not None
        read_as, columns = self.shape.read_as, dict(self.shape.columns)
        report = TableAudit(self.where, read_as, columns, self.tables.config, self._splits)
        report.max_length = max_length
        return _report(report, self.shape, self._tally)


def _columns(part: Path | Table) -> list[str]:
    try:
        return files.columns(part)
    except NoRowsError:
        if not isinstance(part, Path):
            raise
        return []


def _rows(part: Path | Table, only: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Reads rows; a file of a dataset may have none, a frame without any has been given by mistake."""
    try:
        yield from files.rows(part, only=only)
    except NoRowsError:
        if not isinstance(part, Path):
            raise


def _shown(pair: PairRow) -> dict[str, Any]:
    sides = {
        side: None if answer is None else answer.text
        for side, answer in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    return {
        "prompt": pair.prompt_text,
        **sides,
        "score_chosen": pair.score_chosen,
        "score_rejected": pair.score_rejected,
    }


def _report(report: TableAudit, shape: PairShape, tally: Tally) -> TableAudit:
    counts = tally.counts
    report.pairs, report.scored = counts["pairs"], counts["scored"]
    known = counts["rows"] - counts["without_prompt"]
    report.prompts = counts["prompts"] if known else None
    looked_for = set(FINDINGS)
    if not shape.paired:
        looked_for -= {"identical_texts", "identical_but_white_space", "different_prompts", "thinking_on_one_side"}
        looked_for -= {"same_after_the_cut"}
    else:
        looked_for -= {"missing_label"}
    if not report.scored:
        looked_for -= {"tied_scores", "reversed_scores"}
    if report.prompts is None:
        looked_for -= {"repeated_prompts", "prompts_in_several_splits"}
    if len(report.splits) < 2:
        looked_for -= {"prompts_in_several_splits"}
    if report.max_length is None:
        looked_for -= {"prompt_fills_the_limit", "longer_than_the_limit", "same_after_the_cut"}
    report.findings = {name: counts[name] for name in FINDINGS if name in looked_for}
    report.examples = {
        name: [{"split": split, "row": row} for split, row in tally.examples[name]]
        for name in report.findings
        if tally.examples.get(name)
    }
    unequal = counts["compared"] - counts["equally_long"]
    report.chosen_longer = round(counts["chosen_longer"] / unequal, 4) if unequal else None
    report.lengths = {side: points for side, values in tally.lengths.items() if (points := spread(values))}
    report.margins = spread(tally.margins)
    report.thinking = {side: counts[f"thinking_{side}"] for side in ("chosen", "rejected")}
    return report
