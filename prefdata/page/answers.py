"""Makes rows of the page from rows of prefdata's own tables: answers, pairs and drops of one prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefdata.page.rows import Answer, PageRow, pair_values
from prefdata.page.streams import Rows
from prefdata.records import SIDES
from prefdata.tables.reasoning import answer_of

__all__ = ["ANSWER_COLUMNS", "TRACE_COLUMNS", "PromptRows", "answers_of_rows", "length_of"]

ANSWER_COLUMNS = ("prompt_id", "prompt", "source", "index", "model", "response", "score", "unscored", "finish_reason")
TRACE_COLUMNS = (
    *("prompt_id", "pair_index", "n_candidates", "n_eligible", "score_margin"),
    *(f"{name}_{side}" for side in SIDES for name in ("n_tied", "decided", "source", "index", "score", "length")),
)
_VALUES = ("n_tied_chosen", "n_tied_rejected", "decided_chosen", "decided_rejected", "n_candidates")


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
            None if row["response"] is None else length_of(row["response"]),
            row.get("finish_reason"),
            reasons.get((row["source"], row["index"])) or row.get("unscored"),
        )
        for row in rows
    ]


def length_of(text: str) -> int:
    """Measures an answer in Unicode code points, without its reasoning."""
    plain = text[:1].isalnum() and not text.startswith("analysis") and "</think>" not in text
    return len(text if plain else answer_of(text))


class PromptRows:
    """Makes the rows of each prompt, and counts what became of its answers.

    Args:
        waiting: the outcome of a prompt with neither a pair nor a drop.
    """

    def __init__(self, waiting: str) -> None:
        self._waiting = waiting
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
        row.values = {name: pair.get(name) for name in _VALUES}
        for side in SIDES:
            for name in ("score", "source", "length"):
                row.values[f"{name}_{side}"] = pair.get(f"{name}_{side}")
        row.values |= {"margin": pair.get("score_margin"), "split": pair.get("split")}
        row.values = {name: value for name, value in row.values.items() if value is not None}
        row.why = {
            name: pair[name]
            for name in ("n_eligible", "n_candidates", "n_tied_chosen", "n_tied_rejected", "decided_chosen",
                         "decided_rejected") if pair.get(name) is not None
        }  # fmt: skip
        pair_values(row)
        return row
