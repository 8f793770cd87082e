"""`PairRule`: which candidate is chosen, which rejected, and which prompts give no pair."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from prefdata.lazy import pl
from prefdata.pairing._decide import decide, proposed
from prefdata.pairing._select import Steps
from prefdata.pairing.algebra import PairLimits, Selection
from prefdata.pairing.facts import FACTS, facts_of
from prefdata.pairing.filters import BelowChosen, Filter, LengthDifference, Quantile
from prefdata.pairing.labels import AnyLabel
from prefdata.pairing.paired import Paired, Proposal
from prefdata.records import LengthUnit
from prefdata.spec import Part
from prefdata.spec.marks import Harmless

if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = ["PairRule"]


class PairRule(Part):
    """Two selections, and the conditions under which their pairs are kept.

    What holds for every rule:

    * A candidate is eligible when it has a score, is not blank (nothing but white space), is not only reasoning (or
      reasoning without an end), and is whole: neither cut off by the token limit, nor broken off (an error, a content
      filter), nor ended for an unknown reason; `admit` lets them in. One whose source gives no finish reason counts as
      whole. Unscored candidates never reach a rule.
    * Length, equality and repetition are of the answer: a text without the reasoning that it begins with
      (`prefdata.tables.reasoning`).
    * Fewer than two eligible candidates: drop `too_few_candidates`. All eligible scores equal: drop `no_contrast`.
    * The rejected candidate's text differs from the chosen one's in more than white space (`identical`), and its score
      is strictly lower: other candidates are not in its selection. Nothing left because every lower answer has the
      chosen one's text: drop `identical_texts`.
    * `min_margin` and `max_length_difference` leave more candidates out of the rejected one's selection.
    * A selection whose filters admit nobody: drop `no_chosen` or `no_rejected`.
    * Where a rule takes several chosen candidates, each has a selection of rejected ones of its own, and a prompt is
      dropped only when none of them gives a pair. A prompt's pairs are numbered (`pair_index`) by the place of the
      chosen candidate in its selection, then by the rejected one's.
    """

    length: Annotated[LengthUnit, Harmless] = "characters"
    """Unit in which answers are measured. The sources of the published rules don't say theirs."""
    admit: Annotated[
        tuple[Literal["blank", "cut_off", "failed", "only_reasoning", "unknown_finish_reason"], ...], Harmless
    ] = ()
    """Answers that are eligible although they are blank, were cut off by the token limit, were broken off (an error, a
    content filter), have nothing after their reasoning, or have a finish reason that prefdata does not know."""

    identical: Annotated[
        Literal["white_space", "exact"], Harmless, Field(exclude_if=lambda identical: identical == "white_space")
    ] = "white_space"
    """Which texts are one text: those that differ in nothing but white space, or only equal ones. Chat templates that
    trim an answer make the former the same tokens."""

    min_margin: Annotated[
        Annotated[float, Field(ge=0)] | None, Harmless, Field(exclude_if=lambda margin: margin is None)
    ] = None
    """The least difference of the scores of a pair; left out, any difference above 0."""
    max_length_difference: Annotated[
        Annotated[int, Field(ge=0)] | None, Harmless, Field(exclude_if=lambda difference: difference is None)
    ] = None
    """The greatest difference of the lengths of a pair, in the rule's unit; left out, any."""

    label: Annotated[AnyLabel | None, Harmless, Field(exclude_if=lambda label: label is None)] = None
    """Adds the soft label `label_chosen` to each pair; left out, there is none."""

    @field_validator("admit")
    @classmethod
    def _one_spelling(cls, admit: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(admit)))

    @abstractmethod
    def selections(self) -> tuple[Selection, Selection]:
        """How the chosen and how the rejected candidate is picked."""

    def take(self) -> PairLimits:
        """How many pairs a prompt may give: one, unless a rule says otherwise."""
        return PairLimits()

    def needs_comparisons(self) -> bool:
        """Whether the rule reads comparisons of a prompt's candidates besides their scores."""
        return self.label is not None and self.label.needs_comparisons

    def needs_log_odds(self) -> bool:
        """Whether the comparisons must hold log-odds, and not only probabilities, which may be 0 and 1."""
        return False

    def scores_of(self, comparisons: pl.DataFrame) -> pl.DataFrame | None:
        """One score a candidate made of comparisons, where the rule ranks by them; None: it ranks by the scores given.

        Args:
            comparisons: of eligible candidates only; see `prefdata.pairing.comparisons`.
        """
        return None

    def rescored(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """The candidates with other scores in place of some, where the rule looks at more than the scores given.

        Args:
            candidates: one row each, in total order, with `response` and `score`, which may be null.
        """
        return candidates

    def extra_columns(self) -> tuple[str, ...]:
        """Columns of numbers that the rule adds to its pairs, after `score_margin`."""
        return () if self.label is None else ("label_chosen",)

    def with_extras(self, pairs: pl.DataFrame, eligible: pl.DataFrame) -> pl.DataFrame:
        """The pairs with `extra_columns()` filled.

        Args:
            pairs: with all columns of a pair, `row_chosen` and `row_rejected`, and where there are comparisons `p` and
                `log_odds` of chosen against rejected.
            eligible: all eligible candidates, with their `row`.
        """
        return pairs if self.label is None else pairs.with_columns(label_chosen=self.label.values(pairs))

    def needs_quantiles(self) -> bool:
        """Returns whether a selection reads `quantile`, which costs a sort."""
        return any(isinstance(step, Quantile) for selection in self.selections() for step in selection.among)

    def needs_texts(self) -> bool:
        """Returns whether a selection reads texts of candidates, and not facts alone."""
        return any(step.sees_texts for selection in self.selections() for step in (*selection.among, *selection.by))

    def proposal(self, eligible: pl.DataFrame) -> Proposal:
        """Picks pairs among the eligible candidates.

        Args:
            eligible: facts in total order, with `unit` (the number of the prompt), `row` and `quantile`.
        """
        chosen, rejected = self.selections()
        rejected_by = Steps((*self.conditions(), *rejected.among), rejected.by)
        return proposed(eligible, Steps(chosen.among, chosen.by), rejected_by, self.take(), self.same_text())

    def same_text(self) -> str:
        """Names the fact that is equal for candidates of one text; see `identical`."""
        return "answer" if self.identical == "exact" else "bare"

    def conditions(self) -> tuple[Filter, ...]:
        """Gives what every rejected candidate must meet besides the rule's own filters."""
        margin = () if self.min_margin is None else (BelowChosen(margin=self.min_margin),)
        most = self.max_length_difference
        return (*margin, *(() if most is None else (LengthDifference(at_most=most),)))

    def facts(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """Measures the texts of candidates: see `prefdata.pairing.facts.facts_of`."""
        return facts_of(self, candidates)

    def pair(
        self,
        candidates: pl.DataFrame,
        prompt_ids: Iterable[str] | None = None,
        comparisons: pl.DataFrame | None = None,
    ) -> Paired:
        """Applies the rule to candidates of any number of prompts, in any row order.

        Args:
            candidates: one row each, with `prompt_id`, `source`, `index`, `response`, `score` (null when unscored);
                optionally `model`, `finish_reason`, `unscored` (the reason slug). Or facts that were made of such rows
                (`PairRule.facts`), which need no `response` unless the rule `needs_texts()`.
            prompt_ids: all prompts that must be accounted for, also those without a single candidate. Left out, the
                prompts are those of `candidates`.
            comparisons: for rules that need them: see `prefdata.pairing.comparisons`.

        Returns:
            Pairs and drops; every prompt is in exactly one of them, in the pairs perhaps several times.

        Raises:
            InputError: a column is missing, a `prompt_id` is null or not among `prompt_ids`, comparisons are needed
                and there are none or they can't be used, or a score is NaN or infinite. Polars' max, min and sort treat
                NaN and null in different ways and pick a wrong row silently, so none may come this far.
        """
        if not set(FACTS) <= set(candidates.columns):
            candidates = self.facts(candidates).select(*FACTS, "response")
        return decide(self, candidates, prompt_ids, comparisons)
