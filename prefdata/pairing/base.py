"""`PairRule`: which candidate is chosen, which rejected, and which prompts give no pair."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import field_validator

from prefdata.pairing.algebra import Selection
from prefdata.spec import Part

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

__all__ = ["LengthUnit", "PairRule", "Paired"]

LengthUnit = Literal["characters", "words", "bytes"]
"""Unicode code points, runs of non-white-space, or bytes of UTF-8 of an answer."""


@dataclass(frozen=True, slots=True)
class Paired:
    """What became of every prompt and every candidate."""

    pairs: pl.DataFrame
    """One row for each pair, sorted by `prompt_id`: `prefdata.tables.PAIRS` without the prompt."""
    drops: pl.DataFrame
    """One row for each prompt without a pair, sorted by `prompt_id`: prompt_id, stage, reason, detail."""
    ineligible: pl.DataFrame
    """One row for each candidate no rule saw: prompt_id, stage, reason, detail, source, index."""


class PairRule(Part):
    """Two selections, and the conditions under which their pair is kept.

    What holds for every rule:

    * A candidate is eligible when it has a score, is not blank (nothing but white space) and was not cut off by the
      token limit; `admit` lets the last two in. Unscored candidates never reach a rule.
    * Fewer than two eligible candidates: drop `too_few_candidates`. All eligible scores equal: drop `no_contrast`.
    * The rejected candidate's text differs from the chosen one's, and its score is strictly lower: other candidates
      are not in its selection. Nothing left because every lower answer has the chosen one's text: drop
      `identical_texts`.
    * A selection whose filters admit nobody: drop `no_chosen` or `no_rejected`.
    """

    length: LengthUnit = "characters"
    """Unit in which answers are measured. The sources of the published rules don't say theirs."""
    admit: tuple[Literal["blank", "cut_off"], ...] = ()
    """Answers that are eligible although they are blank, or were cut off by the token limit."""

    @field_validator("admit")
    @classmethod
    def _one_spelling(cls, admit: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(admit)))

    @abstractmethod
    def selections(self) -> tuple[Selection, Selection]:
        """How the chosen and how the rejected candidate is picked."""

    def pair(self, candidates: pl.DataFrame, prompt_ids: Iterable[str] | None = None) -> Paired:
        """Applies the rule to candidates of any number of prompts, in any row order.

        Args:
            candidates: one row each, with `prompt_id`, `source`, `index`, `response`, `score` (null when unscored);
                optionally `model`, `finish_reason`, `unscored` (the reason slug).
            prompt_ids: all prompts that must be accounted for, also those without a single candidate. Left out, the
                prompts are those of `candidates`.

        Returns:
            Pairs and drops; every prompt is in exactly one of them.

        Raises:
            InputError: a column is missing, a `prompt_id` is null or not among `prompt_ids`, or a score is NaN or
                infinite. Polars' max, min and sort treat NaN and null in different ways and
                pick a wrong row silently, so none may come this far.
        """
        from prefdata.pairing._decide import decide

        return decide(self, candidates, prompt_ids)
