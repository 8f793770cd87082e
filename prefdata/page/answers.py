"""Makes rows of the page from rows of prefdata's own tables: answers, pairs and drops of one prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefdata.page.rows import Answer, PageRow, pair_values
from prefdata.page.streams import Rows
from prefdata.records import SIDES
from prefdata.tables.cells import parse_score
from prefdata.tables.reasoning import answer_length

__all__ = [
    "ANSWER_COLUMNS",
    "LIST_COLUMNS",
    "TRACE_COLUMNS",
    "WHY_COLUMNS",
    "PromptRows",
    "answers_of_rows",
    "of_rule",
]

ANSWER_COLUMNS = ("prompt_id", "prompt", "source", "index", "model", "response", "score", "unscored", "finish_reason")
TRACE_COLUMNS = (
    *("prompt_id", "pair_index", "n_candidates", "n_eligible", "score_margin"),
    *(f"{name}_{side}" for side in SIDES for name in ("n_tied", "decided", "source", "index", "score", "length")),
)
WHY_COLUMNS = ("n_eligible", "n_candidates", "n_tied_chosen", "n_tied_rejected", "decided_chosen", "decided_rejected")
"""How the rule decided, as a pair explains it."""
LIST_COLUMNS = (*WHY_COLUMNS[1:], *(f"{name}_{side}" for side in SIDES for name in ("source", "length")))
"""What the list has of it."""
_TEXTS = ("decided_", "source_")
"""Columns of texts, by how their names begin; all others hold numbers."""


def of_rule(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, float | str]:
    """Gives the cells of a rule's trace; what anybody's table has of other types under these names is left out."""
    cells = {name: row.get(name) for name in names}
    read = {
        name: (cell if isinstance(cell, str) else None) if name.startswith(_TEXTS) else parse_score(cell)
        for name, cell in cells.items()
    }
    return {name: value for name, value in read.items() if value is not None}


def answers_of_rows(rows: Rows, ineligible: Rows) -> list[Answer]:
    """Makes the answers of a prompt; those that no rule saw have the reason as their note."""
    reasons = {(row["source"], row["index"]): row["reason"] for row in ineligible}
    return [
        Answer(
            row["source"],
            row["index"],
            row.get("model"),
            row["response"],
            row.get("score"),
            None if row["response"] is None else answer_length(row["response"], "characters"),
            row.get("finish_reason"),
            reasons.get((row["source"], row["index"])) or row.get("unscored"),
        )
        for row in rows
    ]


class PromptRows:
    """Makes the rows of each prompt, and counts what became of its answers.

    Args:
        waiting: the outcome of a prompt with neither a pair nor a drop.
        flags: the id of a prompt → further flags of its pairs.
    """

    def __init__(self, waiting: str, flags: Mapping[str, Sequence[str]] | None = None) -> None:
        self._waiting, self.flags = waiting, flags or {}
        self.sources: Counter[tuple[str, str]] = Counter()
        """Source and what became of an answer → answers."""
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Stage and outcome → prompts."""

    def make(
        self,
        prompt_id: str,
        turns: Sequence[tuple[str, str]],
        answers: Sequence[Answer],
        pairs: Sequence[Mapping[str, Any]],
        drops: Sequence[Mapping[str, Any]],
    ) -> Iterator[PageRow]:
        """Yields the pairs of a prompt, or its drops."""
        places = {(answer.source, answer.number): place for place, answer in enumerate(answers)}
        picked: dict[int, str] = {}
        for number, pair in enumerate(pairs):
            row = self._pair(prompt_id, turns, answers, pair, places, number)
            picked |= {place: side for side, place in zip(SIDES, (row.chosen, row.rejected), strict=True)
                       if place is not None and picked.get(place) != "chosen"}  # fmt: skip
            yield row
        self.outcomes["pairs", "pair"] += bool(pairs)
        for drop in drops:
            known = drop["stage"] != "prompts"
            self.outcomes[drop["stage"], drop["reason"]] += 1
            yield PageRow(
                prompt_id,
                turns if known else [],
                answers if known else [],
                outcome=drop["reason"],
                detail=drop.get("detail") or "",
                stage=drop["stage"],
                values={"n_candidates": len(answers)} if known and answers else {},
            )
        if not pairs and not drops:
            self.outcomes["pairs", self._waiting] += 1
            yield PageRow(prompt_id, turns, answers, outcome=self._waiting)
        for place, answer in enumerate(answers):
            fate = picked.get(place) or answer.note or "not picked"
            self.sources[answer.source or "?", fate] += 1

    def _pair(
        self,
        prompt_id: str,
        turns: Sequence[tuple[str, str]],
        answers: Sequence[Answer],
        pair: Mapping[str, Any],
        places: Mapping[tuple[str | None, int | None], int],
        number: int,
    ) -> PageRow:
        chosen, rejected = (places.get((pair.get(f"source_{side}"), pair.get(f"index_{side}"))) for side in SIDES)
        row = PageRow(prompt_id, turns, answers, chosen, rejected, pair_index=pair.get("pair_index") or number)
        given = {"margin": pair.get("score_margin"), "split": pair.get("split")}
        given |= {f"score_{side}": pair.get(f"score_{side}") for side in SIDES}
        row.values = {**of_rule(pair, LIST_COLUMNS), **{name: cell for name, cell in given.items() if cell is not None}}
        row.why = of_rule(pair, WHY_COLUMNS)
        pair_values(row)
        row.flags += self.flags.get(prompt_id, ())
        return row
