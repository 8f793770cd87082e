"""The named rules: published pair constructions, a few lines each, and `CustomRule`.

Where a source is silent, the default is ours and `docs/rules.md` says so.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from prefdata.lazy import pl
from prefdata.pairing.algebra import Highest, Lowest, NearestLength, PairLimits, Random, Selection, Shortest
from prefdata.pairing.base import PairRule
from prefdata.pairing.filters import BelowChosen, BelowChosenBySource, ScoreAtLeast
from prefdata.pairing.repetition import Repetition
from prefdata.spec.marks import Harmless

__all__ = [
    "DNO",
    "BestVsWorst",
    "Count",
    "CustomRule",
    "SnorkelPairRM",
    "TopKVsBottomK",
    "UltraFeedbackBinarized",
    "WPOHybridV1",
    "WPOHybridV2",
]

Count = Annotated[int, Field(ge=1)] | Literal["all"]
"""How many candidates a selection gives."""


class WPOHybridV2(PairRule):
    """Highest score, then shortest, against lowest score, then length nearest to the chosen one's.

    Source: model card of wzhouad/Llama3-Instruct-8B-WPO-HB-v2 and README of github.com/wzhouad/WPO. Silent there: the
    unit of length, prompts whose scores are all equal, second ties.
    """

    kind: Literal["wpo_hybrid_v2"] = "wpo_hybrid_v2"

    def selections(self) -> tuple[Selection, Selection]:
        """See the class."""
        return Selection(by=(Highest(), Shortest())), Selection(by=(Lowest(), NearestLength()))


class WPOHybridV1(PairRule):
    """Highest score of at least 5 against a random answer whose score is lower by at least 1.

    Source: WPO paper, arXiv 2406.11827, section on the hybrid setting (scores 0 to 6; outputs with 5 or 6 are
    positives). The paper doesn't say which of several positives is taken; here it is the highest.
    """

    kind: Literal["wpo_hybrid_v1"] = "wpo_hybrid_v1"
    threshold: Annotated[float, Harmless] = 5.0
    """The least score of a chosen answer."""
    margin: Annotated[float, Harmless, Field(ge=0)] = 1.0
    """The least difference between chosen and rejected."""
    seed: Annotated[int, Harmless] = 0
    """Seed of the random rejected answer."""

    def selections(self) -> tuple[Selection, Selection]:
        """See the class."""
        chosen = Selection(among=(ScoreAtLeast(value=self.threshold),), by=(Highest(),))
        return chosen, Selection(among=(BelowChosen(margin=self.margin),), by=(Random(seed=self.seed),))


class BestVsWorst(PairRule):
    """Highest score against lowest score.

    Source: SimPO, on_policy_data_gen/reward_model_annotate.py, and the WPO Gemma-2 data; both take the first index on
    ties, here the total order decides.
    """

    kind: Literal["best_vs_worst"] = "best_vs_worst"

    def selections(self) -> tuple[Selection, Selection]:
        """See the class."""
        return Selection(by=(Highest(),)), Selection(by=(Lowest(),))


class SnorkelPairRM(PairRule):
    """Best by mean pairwise score against worst.

    Source: card of snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset. The score is the mean over a prompt's answers that
    PairRM gives (`all_rm_scores`).
    """

    kind: Literal["snorkel_pairrm"] = "snorkel_pairrm"

    def selections(self) -> tuple[Selection, Selection]:
        """See the class."""
        return Selection(by=(Highest(),)), Selection(by=(Lowest(),))


class UltraFeedbackBinarized(PairRule):
    """Highest overall score against a random other answer with another text and a lower score.

    Source: create_dataset.py of HuggingFaceH4/ultrafeedback_binarized, which takes the first of tied best answers and
    lets score ties stand; here a tie never makes a pair.
    """

    kind: Literal["ultrafeedback_binarized"] = "ultrafeedback_binarized"
    seed: Annotated[int, Harmless] = 0
    """Seed of the random rejected answer."""

    def selections(self) -> tuple[Selection, Selection]:
        """See the class."""
        return Selection(by=(Highest(),)), Selection(by=(Random(seed=self.seed),))


class DNO(PairRule):
    """Every score of at least 5 against every score that is lower by the margin: 2 for a teacher's answer, 1 otherwise.

    Source: DNO paper, arXiv 2404.03715, section 5.1 (scores 0 to 6; all qualifying pairs are kept). There, answers with
    heavily repeated n-grams are negatives whatever their score; the paper gives no numbers, so that is off unless
    `repetition` gives them.
    """

    kind: Literal["dno"] = "dno"
    teacher: Annotated[tuple[str, ...], Harmless]
    """Sources whose answers count as the teacher's; `()` if there is none."""
    threshold: Annotated[float, Harmless] = 5.0
    """The least score of a chosen answer."""
    margin_teacher: Annotated[float, Harmless, Field(ge=0)] = 2.0
    """The least difference where the chosen answer is the teacher's."""
    margin_student: Annotated[float, Harmless, Field(ge=0)] = 1.0
    """The least difference where it is not."""
    repetition: Annotated[Repetition | None, Harmless, Field(exclude_if=lambda repetition: repetition is None)] = None
    """Makes negatives of answers that repeat themselves, by a score in place of their own; left out, of none."""

    @model_validator(mode="after")
    def _negatives_are_negative(self) -> DNO:
        if self.repetition is not None and self.repetition.score >= self.threshold:
            raise ValueError(
                f"repetition.score {self.repetition.score:g} is not below the threshold {self.threshold:g}, so an "
                "automatic negative could be chosen"
            )
        return self

    def rescored(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """With `repetition`, its score for automatic negatives."""
        return candidates if self.repetition is None else self.repetition.rescored(candidates)

    def selections(self) -> tuple[Selection, Selection]:
        """See the class."""
        below = BelowChosenBySource(
            sources=self.teacher, margin=self.margin_teacher, margin_of_others=self.margin_student
        )
        chosen = Selection(among=(ScoreAtLeast(value=self.threshold),), by=(Highest(),))
        return chosen, Selection(among=(below,), by=(Lowest(),))

    def take(self) -> PairLimits:
        """All of both."""
        return PairLimits(chosen=None, rejected=None)


class TopKVsBottomK(PairRule):
    """Each of the k highest scores against each of the k lowest.

    Best against worst (SimPO, on_policy_data_gen/reward_model_annotate.py) is the case k = 1; for larger k no published
    data set is known that says more than "top" and "bottom", so how they are matched is an option.
    """

    kind: Literal["top_k_vs_bottom_k"] = "top_k_vs_bottom_k"
    k: Annotated[int, Harmless, Field(ge=1)] = 2
    """How many at each end."""
    matched: Annotated[bool, Harmless] = False
    """Only the best against the worst, the second best against the second worst, and so on."""

    def selections(self) -> tuple[Selection, Selection]:
        """See the class."""
        return Selection(by=(Highest(),)), Selection(by=(Lowest(),))

    def take(self) -> PairLimits:
        """K of both."""
        return PairLimits(chosen=self.k, rejected=self.k, matched=self.matched)


class CustomRule(PairRule):
    """Any two selections, written in the recipe."""

    kind: Literal["custom"] = "custom"
    chosen: Annotated[Selection, Harmless]
    """How the chosen answer is picked."""
    rejected: Annotated[Selection, Harmless]
    """How the rejected answer is picked, among those with another text and a lower score."""

    n_chosen: Annotated[Count, Harmless, Field(exclude_if=lambda take: take == 1)] = 1
    """How many chosen answers, from the top of their selection."""
    n_rejected: Annotated[Count, Harmless, Field(exclude_if=lambda take: take == 1)] = 1
    """How many rejected answers for each chosen one, from the top of their selection."""

    @field_validator("chosen")
    @classmethod
    def _stands_alone(cls, chosen: Selection) -> Selection:
        return chosen.standing_alone()

    def selections(self) -> tuple[Selection, Selection]:
        """The two fields."""
        return self.chosen, self.rejected

    def take(self) -> PairLimits:
        """The two other fields."""
        chosen, rejected = (None if take == "all" else take for take in (self.n_chosen, self.n_rejected))
        return PairLimits(chosen, rejected)
