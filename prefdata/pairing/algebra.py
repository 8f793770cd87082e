"""The words a pair rule is made of: keys that order candidates, filters that admit them, and `Selection`.

A selection is *among which candidates*, then *by which keys in order*. What is still tied after the last key is
decided by the total order (`source`, `index`, `response`), ascending, so the order of input rows never matters. The
filters stand in `prefdata.pairing.filters`.

Every frame that a key or filter sees is sorted by (`prompt_id`, total order) and has the columns `prompt_id`,
`source`, `index`, `response`, `model`, `finish_reason`, `score` (finite Float64), `length` and `quantile`; in the
selection of the rejected candidate also `chosen_score`, `chosen_length`, `chosen_response` and `chosen_source`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from prefdata.lazy import pl
from prefdata.pairing.filters import AnyFilter
from prefdata.spec import Spec, derive_seed
from prefdata.spec.marks import Harmless

__all__ = [
    "AnyKey",
    "First",
    "Highest",
    "Key",
    "Longest",
    "Lowest",
    "NearestLength",
    "Random",
    "Selection",
    "Shortest",
    "PairLimits",
]


class Key(Spec):
    """Orders candidates of one prompt: the smallest value wins."""

    sees_chosen: ClassVar[bool] = False
    """Whether it compares with the chosen candidate, and so makes sense for the rejected one only."""
    sees_texts: ClassVar[bool] = False
    """Whether it reads `response` (and `chosen_response`), and not facts alone."""

    @abstractmethod
    def values(self, pool: pl.DataFrame) -> pl.Series:
        """One comparable value for each row of `pool`; smaller is better.

        The column `tied` of `pool`, where it has one, is one number for all candidates that are tied so far; without
        it, all of a prompt are.
        """


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


class First(Key):
    """The first candidate in total order: (`source`, `index`, `response`), ascending.

    Every selection ends in this order anyway; as a key it says so, and its ties count as decided.
    """

    kind: Literal["first"] = "first"

    def values(self, pool: pl.DataFrame) -> pl.Series:
        """The place in total order."""
        return pool.select(pl.int_range(pl.len()).alias("place")).to_series()


class Random(Key):
    """One candidate drawn by seed and `prompt_id`: the same in any row order, on any machine."""

    kind: Literal["random"] = "random"
    seed: Annotated[int, Harmless] = 0
    """Another seed draws other candidates."""

    def values(self, pool: pl.DataFrame) -> pl.Series:
        """0 for the drawn candidate: number `derive_seed("pair", seed, prompt_id) mod pool size` in total order.

        Where several are taken, the others follow in total order from the drawn one on, round the end.
        """
        draws = pool.select(pl.col("prompt_id").unique(maintain_order=True)).with_columns(
            _draw=pl.col("prompt_id").map_elements(
                lambda prompt_id: derive_seed("pair", self.seed, prompt_id), return_dtype=pl.Int64
            )
        )
        group = "tied" if "tied" in pool.columns else "prompt_id"
        joined = pool.select(*dict.fromkeys(["prompt_id", group])).join(
            draws, on="prompt_id", how="left", maintain_order="left"
        )
        place = (pl.int_range(pl.len()) - pl.col("_draw")) % pl.len()
        return joined.select(place.over(group)).to_series()


AnyKey = Annotated[Highest | Lowest | Shortest | Longest | NearestLength | First | Random, Field(discriminator="kind")]


class Selection(Spec):
    """Picks candidates of each prompt: among those that every filter admits, by the keys in order."""

    among: Annotated[tuple[AnyFilter, ...], Harmless] = ()
    """All of them must admit the candidate."""
    by: Annotated[tuple[AnyKey, ...], Harmless, Field(min_length=1)]
    """The first key decides; the next one only among what is tied so far."""

    def standing_alone(self) -> Selection:
        """This selection, if it can be made without a chosen candidate.

        Raises:
            ValueError: a filter or key compares with the chosen candidate.
        """
        for step in (*self.among, *self.by):
            if step.sees_chosen:
                raise ValueError(f"{step.kind} compares with the chosen answer, so only `rejected` can use it")
        return self


class PairLimits(NamedTuple):
    """How many pairs a prompt may give."""

    chosen: int | None = 1
    """How many chosen candidates, from the top of their selection; None takes all."""
    rejected: int | None = 1
    """How many rejected candidates for each chosen one, from the top of their selection; None takes all."""
    matched: bool = False
    """Whether only the i-th chosen one and its own i-th rejected one make a pair, not each with each."""
