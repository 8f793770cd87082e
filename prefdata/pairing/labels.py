"""Soft labels: P(chosen is better) beside each pair, for trainers that weigh or smooth by it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from prefdata.lazy import pl
from prefdata.pairing.comparisons import DECIMALS
from prefdata.spec import Spec
from prefdata.spec.marks import Harmless

__all__ = ["AnyLabel", "ComparisonLabel", "MarginLabel", "SoftLabel"]


class SoftLabel(Spec):
    """Gives each pair the column `label_chosen`: P(chosen is better), between 0 and 1.

    Source of the use: "Geometric-Averaged Preference Optimization for Soft Preference Labels" (arXiv 2409.06691); with
    one constant label it is the label smoothing of conservative DPO.
    """

    needs_comparisons: ClassVar[bool] = False
    """Whether it reads comparisons of the prompt's candidates."""

    @abstractmethod
    def values(self, pairs: pl.DataFrame) -> pl.Series:
        """One number for each row of `pairs`, which has `score_margin` and, from comparisons, `p` (null if none)."""


class MarginLabel(SoftLabel):
    """Sigmoid of (score of the chosen - score of the rejected) / temperature.

    Source: the Bradley-Terry model (Biometrika 39, 1952), with scores as log-strengths.
    """

    kind: Literal["margin"] = "margin"
    temperature: Annotated[float, Harmless, Field(gt=0)] = 1.0
    """The score difference that makes the odds e to 1."""

    def values(self, pairs: pl.DataFrame) -> pl.Series:
        """Above 0.5, as a chosen score is above the rejected one."""
        return (1 / (1 + (-pairs["score_margin"] / self.temperature).exp())).round(DECIMALS)


class ComparisonLabel(SoftLabel):
    """P(chosen beats rejected) as the two were compared; null where they never were."""

    needs_comparisons: ClassVar[bool] = True
    kind: Literal["comparison"] = "comparison"

    def values(self, pairs: pl.DataFrame) -> pl.Series:
        """The probability."""
        return pairs["p"]


AnyLabel = Annotated[MarginLabel | ComparisonLabel, Field(discriminator="kind")]
"""Everything that a rule's `label` may be."""
