"""`compare`: evaluated models side by side, beside the published numbers of the two recipes' models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prefdata.errors import InputError
from prefdata.evaluation.published import PUBLISHED
from prefdata.evaluation.record import read_record
from prefdata.publish.card.evaluation import Number, number_text, numbers_of
from prefdata.spec import JSON

__all__ = ["Comparison", "compare", "lines_of"]


@dataclass(frozen=True)
class Comparison:
    """Numbers of several models."""

    models: tuple[str, ...]
    """Names, in the order of the columns; the published ones last."""
    rows: Mapping[str, tuple[Number | None, ...]]
    """What is measured → (value, standard error) of each model; None where it was not measured."""

    def dump(self) -> dict[str, JSON]:
        """Returns the numbers as JSON."""
        return {
            "models": list(self.models),
            "rows": {name: [None if cell is None else list(cell) for cell in row] for name, row in self.rows.items()},
        }

    def table(self) -> list[str]:
        """Returns the numbers as lines of a Markdown table."""
        lines = [f"| | {' | '.join(self.models)} |", f"| --- |{' ---: |' * len(self.models)}"]
        return lines + [f"| {name} | {' | '.join(map(_cell, row))} |" for name, row in self.rows.items()]


def compare(*models: str | Path, published: bool = True) -> Comparison:
    """Puts evaluated models side by side.

    Args:
        models: folders of evaluated models, or their `evaluation.json`.
        published: put the published numbers of the two recipes' models beside them, for the suites that they have.

    Raises:
        InputError: a model has no evaluation, or none is named.
    """
    if not models:
        raise InputError("no model is named", valid="folders of evaluated models, or their evaluation.json")
    columns: dict[str, dict[str, Number]] = {}
    for where in models:
        record = read_record(Path(where).expanduser())
        name = str(record["model"].get("name"))
        columns[name if name not in columns else str(where)] = _of_all(record["suites"])
    named = list(dict.fromkeys(key for column in columns.values() for key in column))
    if published:
        for name, suites in PUBLISHED.items():
            column = _of_all(suites)
            if column.keys() & set(named):
                columns[f"{name} (published)"] = column
    rows = {key: tuple(column.get(key) for column in columns.values()) for key in named}
    return Comparison(tuple(columns), rows)


def lines_of(results: Mapping[str, JSON]) -> list[str]:
    """Returns the numbers of one suite's results as lines for a terminal."""
    numbers = numbers_of(results)
    width = max(map(len, numbers), default=0)
    return [f"{name:<{width}}  {number_text(number)}" for name, number in numbers.items()]


def _of_all(suites: Mapping[str, JSON]) -> dict[str, Number]:
    return {
        f"{suite}: {name}": number for suite, results in suites.items() for name, number in numbers_of(results).items()
    }


def _cell(number: Number | None) -> str:
    return "-" if number is None else number_text(number)
