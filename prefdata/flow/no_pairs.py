"""Explains why a dataset has not a single pair: the commonest reasons, each with a number and an example."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prefdata.errors import NoPairsError, UserError
from prefdata.flow.documents import read_object
from prefdata.lazy import pl
from prefdata.recipe import Recipe
from prefdata.spec.quoting import quoted
from prefdata.tables import files
from prefdata.tables.cells import parse_score
from prefdata.tables.scored_table import columns_of

__all__ = ["explain_no_pairs", "score_columns_of", "score_column_of_table"]

_REASONS = 3
"""Reasons that are shown of each kind."""
_ID = 16


def explain_no_pairs(dataset: Path, score_columns: Iterable[tuple[Path, str]] = ()) -> NoPairsError:
    """Makes the message of a dataset folder without pairs.

    Args:
        dataset: the folder.
        score_columns: tables that its scores were read from, and the column of each.
    """
    ledger = read_object(dataset / "ledger.json", "the counts of the dataset") or {}
    prompts = ledger.get("prompts", 0)
    lines = [f"no pair came out of {_number(prompts, 'prompt')}"]
    for name, what in (("drops", "prompt"), ("drops_candidates", "answer")):
        lines += [f"- {words}" for words in _reasons(pl.read_parquet(dataset / f"{name}.parquet", glob=False), what)]
    for path, column in score_columns:
        lines += [f"- {words}" for words in _not_numbers(path, column)]
    return NoPairsError(
        "\n".join(lines),
        valid="prompts with two answers of unequal scores that the rule admits",
        hint=f"fix the input or name another column or rule; prefdata inspect {dataset} shows all counts",
    )


def score_column_of_table(path: Path, columns: dict[str, str]) -> list[tuple[Path, str]]:
    """Gives the column of scores of a table for `prefdata pair`; nothing where it can't be read on its own."""
    try:
        return [(path, columns_of(path, columns)["score"])]
    except UserError:
        return []


def score_columns_of(recipe: Recipe) -> list[tuple[Path, str]]:
    """Gives the columns of scores in the files that a recipe reads answers from."""
    found = [
        (getattr(sampler, "path", None), getattr(sampler, name, None))
        for sampler in recipe.samplers
        for name in ("score_column", "chosen_score_column", "rejected_score_column")
    ]
    return [(path, column) for path, column in found if isinstance(path, Path) and column is not None]


def _reasons(drops: pl.DataFrame, what: str) -> Iterator[str]:
    counts = drops.group_by("reason").agg(pl.len(), pl.col("prompt_id", "detail").sort_by("prompt_id").first())
    for reason, number, prompt_id, detail in (
        counts.sort("len", "reason", descending=[True, False]).head(_REASONS).rows()
    ):
        example = f"{prompt_id[:_ID]}{'...' if len(prompt_id) > _ID else ''}"
        yield f"{_number(number, what)}: {reason}, such as {example}" + (f" ({detail})" if detail else "")


def _not_numbers(path: Path, column: str) -> Iterator[str]:
    """Says of a column which value is not a number, where it is, and how many there are."""
    if column not in files.columns(path):
        return
    number, example = 0, ""
    total = 0
    for row_number, row in enumerate(files.rows(path, only=[column]), 1):
        for value in _values(row[column]):
            total += 1
            if parse_score(value) is None:
                number += 1
                example = example or f"{quoted(value, 60)} in row {row_number:,}"
    if number:
        yield f"column {column!r} of {path.name!r}: {example} is not a number: {number:,} of {total:,}"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _values(cell: Any) -> list[Any]:
    return list(cell) if isinstance(cell, list) and len(cell) != 1 else [cell]
