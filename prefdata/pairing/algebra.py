"""The words a pair rule is made of: keys that order candidates, filters that admit them, and `Selection`.

A selection is *among which candidates*, then *by which keys in order*. What is still tied after the last key is
decided by the total order (`source`, `index`, `response`), ascending, so the order of input rows never matters.

Every frame that a key or filter sees is sorted by (`prompt_id`, total order) and has the columns `prompt_id`,
`source`, `index`, `response`, `score` (finite Float64) and `length`; in the selection of the rejected candidate also
`chosen_score` and `chosen_length`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from prefdata.spec import Spec, derive_seed

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "AnyFilter",
    "AnyKey",
    "BelowChosen",
    "Filter",
    "Highest",
    "Key",
    "Longest",
    "Lowest",
    "NearestLength",
    "Random",
    "ScoreAtLeast",
    "Selection",
    "Shortest",
]


class Key(Spec):
    """Orders candidates of one prompt: the smallest value wins."""

    sees_chosen: ClassVar[bool] = False
    """Whether it compares with the chosen candidate, and so makes sense for the rejected one only."""

    @abstractmethod
    def values(self, pool: pl.DataFrame) -> pl.Series:
        """One comparable value for each row of `pool`; smaller is better."""


class Highest(Key):
    """Highest score first."""

    kind: Literal["highest"] = "highest"

    def values(self, pool: pl.DataFrame) -> pl.Series:
        """The negated score."""
        return -pool["score"]


class Lowest(Key):
    """Lowest score first."""

    kind: Literal["lowest"] = "lowest"

    def values(self, pool: pl.DataFrame) -> pl.Series:
        """The score."""
        return pool["score"]


class Shortest(Key):
    """Shortest answer first, in the rule's unit of length."""

    kind: Literal["shortest"] = "shortest"

    def values(self, pool: pl.DataFrame) -> pl.Series:
        """The length."""
        return pool["length"]


class Longest(Key):
    """Longest answer first, in the rule's unit of length."""

    kind: Literal["longest"] = "longest"

    def values(self, pool: pl.DataFrame) -> pl.Series:
        """The negated length."""
        return -pool["length"]


class NearestLength(Key):
    """The answer whose length is nearest to the chosen one's first. For the rejected selection only."""

    sees_chosen: ClassVar[bool] = True
    kind: Literal["nearest_length"] = "nearest_length"

    def values(self, pool: pl.DataFrame) -> pl.Series:
        """The absolute difference of the lengths."""
        return (pool["length"] - pool["chosen_length"]).abs()


class Random(Key):
    """One candidate drawn by seed and `prompt_id`: the same in any row order, on any machine."""

    kind: Literal["random"] = "random"
    seed: int = 0
    """Another seed draws other candidates."""

    def values(self, pool: pl.DataFrame) -> pl.Series:
        """0 for the drawn candidate: number `derive_seed(seed, prompt_id) mod pool size` in total order."""
        import polars as pl

        draws = pool.select(pl.col("prompt_id").unique(maintain_order=True)).with_columns(
            _draw=pl.col("prompt_id").map_elements(
                lambda prompt_id: derive_seed("pair", self.seed, prompt_id), return_dtype=pl.Int64
            )
        )
        joined = pool.select("prompt_id").join(draws, on="prompt_id", how="left", maintain_order="left")
        place = (pl.int_range(pl.len()) - pl.col("_draw")) % pl.len()
        return joined.select(place.over("prompt_id")).to_series()


class Filter(Spec):
    """Admits candidates to a selection."""

    sees_chosen: ClassVar[bool] = False
    """Whether it compares with the chosen candidate, and so makes sense for the rejected one only."""

    @abstractmethod
    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """One boolean for each row of `pool`."""


class ScoreAtLeast(Filter):
    """Scores of at least `value`."""

    kind: Literal["score_at_least"] = "score_at_least"
    value: float
    """The lowest score that is admitted."""

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """Score ≥ value."""
        return pool["score"] >= self.value


class BelowChosen(Filter):
    """Scores that are lower than the chosen one by at least `margin`. For the rejected selection only."""

    sees_chosen: ClassVar[bool] = True
    kind: Literal["below_chosen"] = "below_chosen"
    margin: Annotated[float, Field(ge=0)]
    """The least difference of the scores."""

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """Score ≤ chosen score - margin."""
        return pool["score"] <= pool["chosen_score"] - self.margin


AnyKey = Annotated[Highest | Lowest | Shortest | Longest | NearestLength | Random, Field(discriminator="kind")]
AnyFilter = Annotated[ScoreAtLeast | BelowChosen, Field(discriminator="kind")]


class Selection(Spec):
    """Picks one candidate of each prompt: among those that every filter admits, by the keys in order."""

    among: tuple[AnyFilter, ...] = ()
    """All of them must admit the candidate."""
    by: Annotated[tuple[AnyKey, ...], Field(min_length=1)]
    """The first key decides; the next one only among what is tied so far."""
