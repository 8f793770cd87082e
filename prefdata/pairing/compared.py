"""The rules that rank by comparisons: SPPO and GPO, which carry what they say into the data, and any two selections."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import field_validator

from prefdata.lazy import pl
from prefdata.pairing.algebra import Highest, Lowest, Selection
from prefdata.pairing.base import PairRule
from prefdata.pairing.comparisons import DECIMALS, borda_counts, bradley_terry, mean_scores, twice_as_sure, win_rates
from prefdata.spec.marks import Harmless

__all__ = ["GPO", "SPPO", "ByComparisons"]

_COLUMNS = ("chosen_probs", "chosen_probs_win", "chosen_probs_lose")
"""The names that SPPO's trainer reads, and that GPO's scripts kept for numbers of another meaning."""


class SPPO(PairRule):
    """Highest win rate against lowest win rate, with the probabilities that SPPO's loss takes.

    Adds `chosen_probs` = P(chosen beats rejected), `chosen_probs_win` = the chosen answer's win rate over the prompt's
    eligible answers, and `chosen_probs_lose` = the rejected answer's own win rate.

    Source: SPPO paper, arXiv 2405.00675, and scripts/rank.py and compute_prob.py of github.com/uclaml/SPPO, which take
    the first index on ties and keep pairs of one text; here the total order decides and such pairs don't exist.
    """

    kind: Literal["sppo"] = "sppo"
    probabilities: Annotated[Literal["aggregated", "pairwise", "doubled"], Harmless] = "aggregated"
    """`aggregated` (code): P(i beats j) = sigmoid(score of i - score of j), where the scores given are the mean over j
    of s_ij - s_ji. `pairwise` (paper): P(i beats j) as compared; the score of an answer is then its win rate.
    `doubled` (compute_prob_from_raw.py of general-preference-model, for SPPO with GPM): P(i beats j) = sigmoid(2 s_ij),
    of the log-odds s_ij as compared (GPM's s/τ); the score of an answer is their mean."""
    self_term: Annotated[bool, Harmless] = True
    """Count an answer's 0.5 against itself in its win rate, as the code does: the best of five has at most 0.9."""

    def selections(self) -> tuple[Selection, Selection]:
        """By score: the win rate of aggregated probabilities grows with it, and that of pairwise ones is the score."""
        return Selection(by=(Highest(),)), Selection(by=(Lowest(),))

    def needs_comparisons(self) -> bool:
        """With pairwise or doubled probabilities."""
        return self.probabilities != "aggregated" or super().needs_comparisons()

    def needs_log_odds(self) -> bool:
        """With doubled probabilities."""
        return self.probabilities == "doubled"

    def scores_of(self, comparisons: pl.DataFrame) -> pl.DataFrame | None:
        """With pairwise probabilities the win rates; with doubled ones the mean scores, and win rates as `rate`."""
        if self.probabilities == "aggregated":
            return None
        rates = win_rates(comparisons, self_term=self.self_term, doubled=self.probabilities == "doubled")
        if self.probabilities == "pairwise":
            return rates
        keys = ["prompt_id", "source", "index"]
        return mean_scores(comparisons).join(rates.select(*keys, rate="score"), on=keys, how="left")

    def extra_columns(self) -> tuple[str, ...]:
        """The three of the class, and the label's."""
        return (*_COLUMNS, *super().extra_columns())

    def with_extras(self, pairs: pl.DataFrame, eligible: pl.DataFrame) -> pl.DataFrame:
        """See the class."""
        pairs = super().with_extras(pairs, eligible)
        if self.probabilities == "pairwise":
            values = (pl.col("p"), pl.col("score_chosen"), pl.col("score_rejected"))
        else:
            twice = self.probabilities == "doubled"
            rates = eligible.select("row", "rate") if twice else self._aggregated_rates(eligible)
            for side in ("chosen", "rejected"):
                of_side = rates.rename({"row": f"row_{side}", "rate": f"rate_{side}"})
                pairs = pairs.join(of_side, on=f"row_{side}", how="left", maintain_order="left")
            beats = 1 / (1 + (-pl.col("score_margin")).exp())
            beats = twice_as_sure(pl.col("log_odds")) if twice else beats.round(DECIMALS)
            values = (beats, pl.col("rate_chosen"), pl.col("rate_rejected"))
        return pairs.with_columns(value.alias(name) for name, value in zip(_COLUMNS, values, strict=True))

    def _aggregated_rates(self, eligible: pl.DataFrame) -> pl.DataFrame:
        """Row and win rate of every eligible answer."""
        own, other = eligible.select("prompt_id", "row", "score"), eligible.select("prompt_id", "row", "score")
        met = own.join(other, on="prompt_id", suffix="_other").sort("row", "row_other")
        if not self.self_term:
            met = met.filter(pl.col("row") != pl.col("row_other"))
        p = 1 / (1 + (pl.col("score_other") - pl.col("score")).exp())
        rates = met.select("row", rate=p).group_by("row", maintain_order=True).agg("rate")
        return rates.with_columns(rate=(pl.col("rate").list.sum() / pl.col("rate").list.len()).round(DECIMALS))


class GPO(PairRule):
    """Highest mean preference score against lowest, with the scores that GPO's loss takes.

    Adds, under the names of SPPO's columns, `chosen_probs` = the preference score of chosen over rejected,
    `chosen_probs_win` = the chosen answer's mean score over the prompt's answers, itself with 0 among them, and
    `chosen_probs_lose` = the rejected answer's. They are log-odds, not probabilities.

    Source: GPM paper, arXiv 2410.02197, and rank_gp.py and compute_score_from_raw.py of
    github.com/general-preference/general-preference-model, which take the first index on ties.
    """

    kind: Literal["gpo"] = "gpo"
    preferences: Annotated[Literal["aggregated", "pairwise"], Harmless] = "aggregated"
    """`aggregated`: the scores given are mean preference scores s/τ, and the score of a pair is their difference, which
    it is exactly where preferences are transitive. `pairwise`: all of it from comparisons."""
    doubled: Annotated[bool, Harmless] = False
    """False (paper): s/τ once. True (code): the table minus its transpose, 2 s/τ, in the three columns."""

    def selections(self) -> tuple[Selection, Selection]:
        """By score: that of an answer is its mean preference score."""
        return Selection(by=(Highest(),)), Selection(by=(Lowest(),))

    def needs_comparisons(self) -> bool:
        """With pairwise preferences."""
        return self.preferences == "pairwise" or super().needs_comparisons()

    def needs_log_odds(self) -> bool:
        """With pairwise preferences."""
        return self.preferences == "pairwise"

    def scores_of(self, comparisons: pl.DataFrame) -> pl.DataFrame | None:
        """With pairwise preferences, the mean scores, once."""
        return mean_scores(comparisons) if self.preferences == "pairwise" else None

    def extra_columns(self) -> tuple[str, ...]:
        """The three of the class, and the label's."""
        return (*_COLUMNS, *super().extra_columns())

    def with_extras(self, pairs: pl.DataFrame, eligible: pl.DataFrame) -> pl.DataFrame:
        """See the class."""
        between = pl.col("log_odds") if self.preferences == "pairwise" else pl.col("score_margin")
        values = (between, pl.col("score_chosen"), pl.col("score_rejected"))
        times = 2.0 if self.doubled else 1.0
        return (
            super()
            .with_extras(pairs, eligible)
            .with_columns((value * times).alias(name) for name, value in zip(_COLUMNS, values, strict=True))
        )


class ByComparisons(PairRule):
    """Any two selections on scores made of comparisons; as it stands, the best against the worst.

    The scores that a scorer gave don't count. What each ranking means: `prefdata.pairing.comparisons`.
    """

    kind: Literal["by_comparisons"] = "by_comparisons"
    ranking: Annotated[Literal["win_rate", "mean_score", "borda", "bradley_terry"], Harmless]
    """What makes one score a candidate: mean P(it beats j), mean log-odds, candidates beaten, or log-strength."""
    chosen: Annotated[Selection, Harmless] = Selection(by=(Highest(),))
    """How the chosen answer is picked."""
    rejected: Annotated[Selection, Harmless] = Selection(by=(Lowest(),))
    """How the rejected answer is picked, among those with another text and a lower score."""

    @field_validator("chosen")
    @classmethod
    def _stands_alone(cls, chosen: Selection) -> Selection:
        return chosen.standing_alone()

    def selections(self) -> tuple[Selection, Selection]:
        """The two fields."""
        return self.chosen, self.rejected

    def needs_comparisons(self) -> bool:
        """Always."""
        return True

    def needs_log_odds(self) -> bool:
        """With `mean_score`, which is a mean of log-odds."""
        return self.ranking == "mean_score"

    def scores_of(self, comparisons: pl.DataFrame) -> pl.DataFrame | None:
        """By the ranking."""
        rankings = {
            "win_rate": win_rates,
            "mean_score": mean_scores,
            "borda": borda_counts,
            "bradley_terry": bradley_terry,
        }
        return rankings[self.ranking](comparisons)
