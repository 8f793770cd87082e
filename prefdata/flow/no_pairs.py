"""Explains why a dataset has not a single pair: the commonest reasons, each with a number and an example."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prefdata.errors import NoPairsError, UserError
from prefdata.flow.documents import read_object
from prefdata.hub import find_table
from prefdata.lazy import pl
from prefdata.recipe import Recipe
from prefdata.spec.quoting import quoted
from prefdata.tables import files
from prefdata.tables.cells import parse_score
from prefdata.tables.scored_table import ScoredTableFile
from prefdata.tables.table import Table
from prefdata.tables.written import is_written, read_list

__all__ = ["ScoreColumn", "explain_no_pairs", "score_column_of_table", "score_columns_of"]

_REASONS = 3
"""Reasons that are shown of each kind."""
_ID = 16


def explain_no_pairs(dataset: Path, score_columns: Iterable[ScoreColumn] = ()) -> NoPairsError:
    """Makes the message of a dataset folder without pairs.

    Args:
        dataset: the folder.
        score_columns: where its scores were read from.
    """
    ledger = read_object(dataset / "ledger.json", "the counts of the dataset") or {}
    prompts = ledger.get("prompts", 0)
    lines = [f"no pair came out of {_number(prompts, 'prompt')}"]
    for name, what in (("drops", "prompt"), ("drops_candidates", "answer")):
        lines += [f"- {words}" for words in _reasons(pl.read_parquet(dataset / f"{name}.parquet", glob=False), what)]
    for column in score_columns:
        lines += [f"- {words}" for words in _not_numbers(column)]
    return NoPairsError(
        "\n".join(lines),
        valid="prompts with two answers of unequal scores that the rule admits",
        hint=f"fix the input or name another column or rule; prefdata inspect {dataset} shows all counts",
    )


@dataclass(frozen=True)
class ScoreColumn:
    """Where scores were read from."""

    table: str
    path: str
    """Column, or column and keys within."""
    cells: Callable[[], Iterable[Any]]
    """Reads the cells, one a row; a list has one score for each answer of the row."""


def score_column_of_table(
    table: files.TableLike, columns: Mapping[str, str], config: str | None, split: str | None
) -> list[ScoreColumn]:
    """Gives the column of scores of a table for `prefdata pair`; nothing where it can't be read a second time."""
    if table == "-":
        return []
    try:
        file = ScoredTableFile(find_table(table, config, split).table, columns)
    except UserError:
        return []
    return [ScoreColumn(file.table.name, file.named["score"], file.scores)]


def score_columns_of(recipe: Recipe) -> list[ScoreColumn]:
    """Gives the columns of scores in the files that a recipe reads answers from."""
    found = [
        (getattr(sampler, "path", None), getattr(sampler, name, None))
        for sampler in recipe.samplers
        for name in ("score_column", "chosen_score_column", "rejected_score_column")
    ]
    tables = [
        (files.open_table(path), column) for path, column in found if isinstance(path, Path) and column is not None
    ]
    return [
        ScoreColumn(table.name, column, partial(_cells, table, column))
        for table, column in tables
        if column in table.columns
    ]


def _cells(table: Table, column: str) -> Iterator[Any]:
    for row in table.rows(only=[column]):
        cell = row[column]
        values = read_list(cell) if is_written(cell) else None
        yield cell if values is None else values


def _reasons(drops: pl.DataFrame, what: str) -> Iterator[str]:
    counts = drops.group_by("reason").agg(pl.len(), pl.col("prompt_id", "detail").sort_by("prompt_id").first())
    for reason, number, prompt_id, detail in (
        counts.sort("len", "reason", descending=[True, False]).head(_REASONS).rows()
    ):
        example = f"{prompt_id[:_ID]}{'...' if len(prompt_id) > _ID else ''}"
        yield f"{_number(number, what)}: {reason}, such as {example}" + (f" ({detail})" if detail else "")


def _not_numbers(scores: ScoreColumn) -> Iterator[str]:
    """Says of a column which value is not a number, where it is, and how many there are."""
    number, example = 0, ""
    total = 0
    for row_number, cell in enumerate(scores.cells(), 1):
        for value in _values(cell):
            if value is None:
                continue
            total += 1
            if parse_score(value) is None:
                number += 1
                example = example or f"{quoted(value, 60)} in row {row_number:,}"
    if number:
        yield f"column {scores.path!r} of {scores.table}: {example} is not a number: {number:,} of {total:,}"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _values(cell: Any) -> list[Any]:
    return list(cell) if isinstance(cell, list) and len(cell) != 1 else [cell]
