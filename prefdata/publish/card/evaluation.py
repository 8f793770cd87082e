"""Puts the results of evaluations onto a model's card: a table, and `model-index` for the Hub in the header."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeGuard

from prefdata.publish.card.blocks import block, find_blocks, inline
from prefdata.publish.card.text import card_header, header_text
from prefdata.spec import JSON

__all__ = ["Number", "number_text", "numbers_of", "with_evaluation"]

Number: TypeAlias = tuple[float, float | None]
"""A value and its standard error; None where there is none."""

_NAMES = {
    "length_controlled_winrate": "LC win rate",
    "win_rate": "win rate",
    "avg_length": "avg. length",
    "n_total": "compared",
    "accuracy": "accuracy",
    "margin": "margin",
    "mean_reward": "mean reward",
    "average": "average",
}
"""Key of a suite's results → what a table calls it. Others are counts, inputs and settings."""
_ERRORS = {
    "length_controlled_winrate": "lc_standard_error",
    "win_rate": "standard_error",
    "accuracy": "accuracy_standard_error",
    "margin": "margin_standard_error",
    "mean_reward": "standard_error_of_reward",
}
_TITLES = {
    "alpaca_eval": ("AlpacaEval 2", "tatsu-lab/alpaca_eval"),
    "held_out": ("held-out preferences", "preferences"),
}
_OURS = {"evaluated_by": "prefdata"}
"""Marks the results that prefdata wrote, as arguments of their dataset: the Hub wants a source to have an address."""
_HEADER = re.compile(r"\A---[ \t]*\n.*?\n---[ \t]*(?:\n|\Z)", re.DOTALL)


def numbers_of(results: Mapping[str, JSON]) -> dict[str, Number]:
    """Returns the numbers of one suite's results: name → value and standard error."""
    found: dict[str, Number] = {}
    for key, name in _NAMES.items():
        value, error = results.get(key), results.get(_ERRORS.get(key, ""))
        if _is_number(value):
            found[name] = (value, error if _is_number(error) else None)
    for group in ("judges", "sets", "tasks"):
        for name, inner in _objects(results.get(group)):
            value, error = inner.get("value"), inner.get("standard_error")
            if _is_number(value):
                found[name] = (value, error if _is_number(error) else None)
            else:
                found |= {f"{name}: {key}": number for key, number in numbers_of(inner).items()}
    return found


def number_text(number: Number) -> str:
    """Writes a value with its standard error."""
    value, error = number
    if isinstance(value, int):
        return f"{value:,}"
    digits = 2 if abs(value) >= 1 else 4
    return f"{value:.{digits}f}" if error is None else f"{value:.{digits}f} ± {error:.{digits}f}"


def with_evaluation(card: str, name: str, suites: Mapping[str, Mapping[str, JSON]]) -> str | None:
    """Puts results onto a card of prefdata; text of others, and their results in `model-index`, stay.

    Args:
        card: the whole text.
        name: of the model.
        suites: name → results, as in `evaluation.json`.

    Returns:
        The new text; None where the card is not one of prefdata.
    """
    header, blocks = card_header(card), dict(find_blocks(card))
    match = _HEADER.match(card)
    if not isinstance(header, dict) or match is None or not blocks:
        return None
    header["model-index"] = _model_index(header.get("model-index"), name, suites)
    body, ours = card[match.end() :], block("evaluation", _table(suites))
    if "evaluation" in blocks:
        body = body.replace(blocks["evaluation"], ours, 1)
    else:
        after = blocks.get("about") or next(iter(blocks.values()))
        body = body.replace(after, f"{after}\n\n{ours}", 1)
    return header_text(header) + body


def _table(suites: Mapping[str, Mapping[str, JSON]]) -> str:
    lines = ["## Evaluation", "", "| suite | measure | value |", "| --- | --- | ---: |"]
    lines += [
        f"| {inline(suite)} | {inline(measure)} | {number_text(number)} |"
        for suite, results in suites.items()
        for measure, number in numbers_of(results).items()
    ]
    return "\n".join(
        [*lines, "\nInputs, settings and versions are in `evaluation.json`; after ± is the standard error."]
    )


def _model_index(before: JSON, name: str, suites: Mapping[str, Mapping[str, JSON]]) -> list[JSON]:
    entries = [entry for entry in before if isinstance(entry, dict)] if isinstance(before, list) else []
    kept = [
        result
        for entry in entries
        if entry.get("name") == name
        for result in entry.get("results") or ()
        if not _is_ours(result)
    ]
    ours = [result for suite, results in suites.items() for result in _results(suite, results)]
    return [*(entry for entry in entries if entry.get("name") != name), {"name": name, "results": [*kept, *ours]}]


def _is_ours(result: JSON) -> bool:
    dataset = result.get("dataset") if isinstance(result, dict) else None
    return isinstance(dataset, dict) and dataset.get("args") == _OURS


def _results(suite: str, results: Mapping[str, JSON]) -> Sequence[JSON]:
    title, kind = _TITLES.get(suite, (suite, suite))
    numbers = numbers_of(results)
    if not numbers:
        return []
    metrics = [{"type": measure, "value": value} for measure, (value, _) in numbers.items()]
    task = {"type": "text-generation"}
    return [{"task": task, "dataset": {"name": title, "type": kind, "args": dict(_OURS)}, "metrics": metrics}]


def _objects(value: JSON) -> Sequence[tuple[str, dict[str, JSON]]]:
    found = value.items() if isinstance(value, dict) else ()
    return [(str(name), inner) for name, inner in found if isinstance(inner, dict)]


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
