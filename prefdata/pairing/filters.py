"""Filters: which candidates a selection may pick. See `prefdata.pairing.algebra` for the frame that they see."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from prefdata.lazy import pl
from prefdata.spec import Spec
from prefdata.spec.marks import Harmless
from prefdata.tables.finish_reasons import finish_reason_of
from prefdata.tables.reasoning import answers_of

__all__ = [
    "AnyFilter",
    "BelowChosen",
    "BelowChosenBySource",
    "Filter",
    "FinishReason",
    "FromSource",
    "LengthDifference",
    "LengthRatio",
    "NotFromSource",
    "NotIdentical",
    "Quantile",
    "ScoreAtLeast",
    "ScoreAtMost",
]

_SPACES = r"[\s\x1c-\x1f]+"
"""A run of what Python calls white space; `\\s` alone leaves out U+001C to U+001F."""


class Filter(Spec):
    """Admits candidates to a selection."""

    sees_chosen: ClassVar[bool] = False
    """Whether it compares with the chosen candidate, and so makes sense for the rejected one only."""
    sees_texts: ClassVar[bool] = False
    """Whether it reads `response` (and `chosen_response`), and not facts alone."""

    @abstractmethod
    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """One boolean for each row of `pool`."""


class ScoreAtLeast(Filter):
    """Scores of at least `value`."""

    kind: Literal["score_at_least"] = "score_at_least"
    value: Annotated[float, Harmless]
    """The lowest score that is admitted."""

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """Score ≥ value."""
        return pool["score"] >= self.value


class ScoreAtMost(Filter):
    """Scores of at most `value`."""

    kind: Literal["score_at_most"] = "score_at_most"
    value: Annotated[float, Harmless]
    """The highest score that is admitted."""

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """Score ≤ value."""
        return pool["score"] <= self.value


class BelowChosen(Filter):
    """Scores that are lower than the chosen one by at least `margin`. For the rejected selection only."""

    sees_chosen: ClassVar[bool] = True
    kind: Literal["below_chosen"] = "below_chosen"
    margin: Annotated[float, Harmless, Field(ge=0)]
    """The least difference of the scores."""

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """Score ≤ chosen score - margin."""
        return pool["score"] <= pool["chosen_score"] - self.margin


class BelowChosenBySource(Filter):
    """Scores lower than the chosen one by a margin that depends on who wrote the chosen answer. For the rejected only.

    Source of the idea: DNO, arXiv 2404.03715, where the teacher's answers need the larger margin.
    """

    sees_chosen: ClassVar[bool] = True
    kind: Literal["below_chosen_by_source"] = "below_chosen_by_source"
    sources: Annotated[tuple[str, ...], Harmless]
    """Sources of chosen answers that `margin` holds for."""
    margin: Annotated[float, Harmless, Field(ge=0)]
    """The least difference of the scores where the chosen answer is of one of `sources`."""
    margin_of_others: Annotated[float, Harmless, Field(ge=0)]
    """The least difference of the scores where it is of any other source."""

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """Score ≤ chosen score - the margin of the chosen one's source."""
        listed = pl.col("chosen_source").is_in(list(self.sources)).fill_null(value=False)
        margin = pl.when(listed).then(self.margin).otherwise(self.margin_of_others)
        return pool.select(pl.col("score") <= pl.col("chosen_score") - margin).to_series()


class FromSource(Filter):
    """Answers of the named sources. A candidate without a source is of none of them."""

    kind: Literal["from_source"] = "from_source"
    sources: Annotated[tuple[str, ...], Harmless, Field(min_length=1)]
    """Names of sources, as in the column `source`."""

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """Source among the names."""
        return pool["source"].is_in(list(self.sources)).fill_null(value=False)


class NotFromSource(Filter):
    """Answers of all sources but the named ones. A candidate without a source is of none of them."""

    kind: Literal["not_from_source"] = "not_from_source"
    sources: Annotated[tuple[str, ...], Harmless, Field(min_length=1)]
    """Names of sources, as in the column `source`."""

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """Source not among the names."""
        return ~pool["source"].is_in(list(self.sources)).fill_null(value=False)


class FinishReason(Filter):
    """Answers that ended for one of the reasons, in any provider's spelling. A null finish reason is `unknown`."""

    kind: Literal["finish_reason"] = "finish_reason"
    reasons: Annotated[tuple[str, ...], Harmless, Field(min_length=1)]
    """`stop`, `length`, `unknown` (not stated), or a word as the source has it. All but `stop` and `unknown` need the
    rule to admit such answers as well."""

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """Finish reason among the reasons."""
        words = pool["finish_reason"].fill_null("unknown")
        admitted = [word for word in words.unique() if {word, finish_reason_of(word)} & {*self.reasons}]
        return words.is_in(admitted)


class LengthRatio(Filter):
    """Answers whose length is within a ratio of the chosen one's. For the rejected selection only."""

    sees_chosen: ClassVar[bool] = True
    kind: Literal["length_ratio"] = "length_ratio"
    at_least: Annotated[Annotated[float, Field(ge=0)] | None, Harmless] = None
    """The least length, as a multiple of the chosen one's; left out, there is none."""
    at_most: Annotated[Annotated[float, Field(ge=0)] | None, Harmless] = None
    """The greatest length, as a multiple of the chosen one's; left out, there is none."""

    @model_validator(mode="after")
    def _bounded(self) -> LengthRatio:
        _check_bounds(self.at_least, self.at_most)
        return self

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """At_least · chosen length ≤ length ≤ at_most · chosen length."""
        low, high = self.at_least, self.at_most
        above = pl.lit(value=True) if low is None else pl.col("length") >= pl.col("chosen_length") * low
        below = pl.lit(value=True) if high is None else pl.col("length") <= pl.col("chosen_length") * high
        return pool.select("length", admitted=above & below)["admitted"]


class LengthDifference(Filter):
    """Answers whose length differs from the chosen one's by at most `at_most`. For the rejected selection only."""

    sees_chosen: ClassVar[bool] = True
    kind: Literal["length_difference"] = "length_difference"
    at_most: Annotated[int, Harmless, Field(ge=0)]
    """The greatest difference, in the rule's unit of length."""

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """|length - chosen length| ≤ at_most."""
        return (pool["length"] - pool["chosen_length"]).abs() <= self.at_most


class NotIdentical(Filter):
    """Answers whose text is not the chosen one's. For the rejected selection only.

    Every rule leaves texts out that differ from the chosen one in nothing but white space, unless its `identical` is
    `exact`; then this filter does so, where every run of white space is one space.
    """

    sees_chosen: ClassVar[bool] = True
    sees_texts: ClassVar[bool] = True
    kind: Literal["not_identical"] = "not_identical"
    how: Annotated[Literal["exact", "white_space"], Harmless] = "white_space"
    """Compare the texts as they are, or stripped and with every run of white space as one space."""

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """The two texts differ."""
        pool = pool.select(answers_of(pool[name]) for name in ("response", "chosen_response"))
        own, other = pl.col("response"), pl.col("chosen_response")
        if self.how == "white_space":
            own, other = (text.str.replace_all(_SPACES, " ").str.strip_chars(" ") for text in (own, other))
        return pool.select(own != other).to_series()


class Quantile(Filter):
    """Answers by the place of their score among the prompt's eligible ones.

    The quantile of a candidate is the share of the prompt's eligible candidates, itself included, whose score is at
    most its own: 1 for the best, 1/n for a single worst of n, and the same for all that are tied.
    """

    kind: Literal["quantile"] = "quantile"
    at_least: Annotated[Annotated[float, Field(ge=0, le=1)] | None, Harmless] = None
    """The lowest quantile that is admitted; left out, there is no such bound."""
    at_most: Annotated[Annotated[float, Field(ge=0, le=1)] | None, Harmless] = None
    """The highest quantile that is admitted; left out, there is no such bound."""

    @model_validator(mode="after")
    def _bounded(self) -> Quantile:
        _check_bounds(self.at_least, self.at_most)
        return self

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """At_least ≤ quantile ≤ at_most."""
        quantile = pool["quantile"]
        above = quantile >= (0.0 if self.at_least is None else self.at_least)
        return above & (quantile <= (1.0 if self.at_most is None else self.at_most))


def _check_bounds(at_least: float | None, at_most: float | None) -> None:
    if at_least is None and at_most is None:
        raise ValueError("give at_least, at_most or both")
    if at_least is not None and at_most is not None and at_least > at_most:
        raise ValueError(f"at_least {at_least:g} is above at_most {at_most:g}, so nobody would be admitted")


AnyFilter = Annotated[
    ScoreAtLeast
    | ScoreAtMost
    | BelowChosen
    | BelowChosenBySource
    | FromSource
    | NotFromSource
    | FinishReason
    | LengthRatio
    | LengthDifference
    | NotIdentical
    | Quantile,
    Field(discriminator="kind"),
]
"""Everything that a selection's `among` may hold."""
