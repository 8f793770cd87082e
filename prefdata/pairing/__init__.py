"""Pairing: the rule algebra and the named rules. Pure Polars, no files, no models.

::

    from prefdata.pairing import WPOHybridV2

    paired = WPOHybridV2().pair(candidates)   # a Polars frame: prompt_id, source, index, response, score
    paired.pairs, paired.drops, paired.ineligible
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from prefdata.pairing.algebra import (
    BelowChosen,
    Highest,
    Longest,
    Lowest,
    NearestLength,
    Random,
    ScoreAtLeast,
    Selection,
    Shortest,
)
from prefdata.pairing.base import LengthUnit, Paired, PairRule
from prefdata.pairing.named import (
    BestVsWorst,
    CustomRule,
    SnorkelPairRM,
    UltraFeedbackBinarized,
    WPOHybridV1,
    WPOHybridV2,
)

__all__ = [
    "AnyRule",
    "BelowChosen",
    "BestVsWorst",
    "CustomRule",
    "Highest",
    "LengthUnit",
    "Longest",
    "Lowest",
    "NearestLength",
    "PairRule",
    "Paired",
    "Random",
    "ScoreAtLeast",
    "Selection",
    "Shortest",
    "SnorkelPairRM",
    "UltraFeedbackBinarized",
    "WPOHybridV1",
    "WPOHybridV2",
    "rule_named",
]

AnyRule = Annotated[
    WPOHybridV2 | WPOHybridV1 | BestVsWorst | SnorkelPairRM | UltraFeedbackBinarized | CustomRule,
    Field(discriminator="kind"),
]
"""Everything that a recipe's `pairs` may be."""


def rule_named() -> dict[str, type[PairRule]]:
    """The published rules by name: those that need no more than their name."""
    union = get_args(get_args(AnyRule)[0])
    return {rule.model_fields["kind"].default: rule for rule in union if rule is not CustomRule}
