"""`Preflight`: what became of every row between the dataset and the trainer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from prefdata.errors import ConservationError, InputError
from prefdata.spec import JSON
from prefdata.training.options import DROPPED, Limits, Reason

__all__ = ["MEANINGS", "Preflight"]

_IDS = 20
"""Ids kept for each reason; the rest are in the table of drops, or only counted."""

MEANINGS: dict[Reason, str] = {
    "unknown_role": "a message has another role than system, user, assistant or tool",
    "prompts_differ": "the two conversations differ before their last turn",
    "empty_side": "the prompt or an answer is empty",
    "no_number": "a column that the objective reads holds no number",
    "template_failed": "the chat template refuses the conversation",
    "prompt_fills": "the prompt leaves no token for an answer",
    "equal_after_cut": "both answers have the same tokens, before or after they were cut",
    "two_bos": "the prompt begins with two BOS tokens",
    "prompt_not_prefix": "the template renders the prompt alone otherwise than before an answer",
    "answer_cut": "an answer was cut to the limit",
    "prompt_cut": "the prompt was cut to the limit",
    "thinking_on_one_side": "one answer of the two shows its reasoning, as in <think>...</think>",
    "control_tokens": "a text spells a control token of the model, which becomes that token",
}
"""Reason → what it says of a row."""


@dataclass
class Preflight:
    """Counts of one split. Rows in = rows trained + rows dropped."""

    split: str
    rows_in: int = 0
    rows_trained: int = 0
    counts: dict[Reason, int] = field(default_factory=dict)
    """Reason → rows. A dropped row is counted under one reason, a trained one under each that holds."""
    ids: dict[Reason, list[str]] = field(default_factory=dict)
    """Reason → ids of the first rows."""
    tokens: int = 0
    """Tokens of both sequences of each trained pair, prompts counted twice."""
    longest: int = 0
    """Tokens of the longest sequence."""

    @property
    def dropped(self) -> int:
        """Rows that are not trained on."""
        return sum(self.counts.get(reason, 0) for reason in DROPPED)

    def count(self, row_id: str, reasons: Iterable[Reason]) -> None:
        """Counts a row under its reasons."""
        for reason in reasons:
            self.counts[reason] = self.counts.get(reason, 0) + 1
            ids = self.ids.setdefault(reason, [])
            if len(ids) < _IDS:
                ids.append(row_id)

    def check(self, limits: Limits) -> list[str]:
        """Checks that the counts balance and keep to the limits.

        Returns:
            One line for each warning.

        Raises:
            ConservationError: a row is neither trained nor dropped.
            InputError: no row is left, or a limit that stops is crossed.
        """
        if self.rows_in != self.rows_trained + self.dropped:
            raise ConservationError(f"{self.split}: {self.rows_in} in, {self.rows_trained} trained, {self.dropped} out")
        if not self.rows_trained:
            raise InputError(
                f"no row of the split {self.split!r} can be trained on: {self.rows_in:,} in, {self._counted(DROPPED)}",
                hint="look at the rows named above" if self.counts else "name a dataset that has rows",
            )
        for reason, share in limits.stop.items():
            if self.counts.get(reason, 0) > share * self.rows_in:
                self._stop(reason, self.counts[reason], share)
        if self.dropped > limits.stop_dropped * self.rows_in:
            self._stop("dropped", self.dropped, limits.stop_dropped)
        return [
            f"{self.split}: {self.counts[reason]:,} of {self.rows_in:,} rows: {meaning} ({reason}; "
            f"first: {', '.join(self.ids[reason][:3])})"
            for reason, meaning in MEANINGS.items()
            if reason in limits.warn and self.counts.get(reason, 0) > limits.warn[reason] * self.rows_in
        ]

    def dump(self) -> dict[str, JSON]:
        """Returns the counts as JSON."""
        return {
            "split": self.split,
            "rows_in": self.rows_in,
            "rows_trained": self.rows_trained,
            "rows_dropped": self.dropped,
            "counts": {reason: self.counts[reason] for reason in MEANINGS if self.counts.get(reason)},
            "ids": {reason: self.ids[reason] for reason in MEANINGS if self.ids.get(reason)},
            "tokens": self.tokens,
            "longest": self.longest,
        }

    @classmethod
    def load(cls, dumped: dict[str, JSON]) -> Preflight:
        """Returns the counts of a dump."""
        return cls(**{name: value for name, value in dumped.items() if name != "rows_dropped"})

    def _counted(self, reasons: Sequence[Reason]) -> str:
        counted = [f"{reason} {self.counts[reason]:,}" for reason in reasons if self.counts.get(reason)]
        return ", ".join(counted) or "none dropped"

    def _stop(self, reason: Reason | Literal["dropped"], count: int, share: float) -> None:
        dropped = [name for name in DROPPED if self.counts.get(name)]
        reasons: list[Reason] = dropped if reason == "dropped" else [reason]
        ids = [row for name in reasons for row in self.ids.get(name, [])[:5]]
        meanings = [MEANINGS[name] for name in reasons]
        raise InputError(
            f"{count:,} of {self.rows_in:,} rows of the split {self.split!r} are {reason}: {'; '.join(meanings)}",
            valid=f"at most a share of {share:g}, as `training.limits` says; first rows: {', '.join(ids)}",
            hint="fix the rows or the template, raise max_length, or raise the limit",
        )
