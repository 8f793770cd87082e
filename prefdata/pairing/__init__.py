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
    First,
    Highest,
    Longest,
    Lowest,
    NearestLength,
    PairLimits,
    Random,
    Selection,
    Shortest,
)
from prefdata.pairing.backfill import pair_with_backfill
from prefdata.pairing.base import PairRule
from prefdata.pairing.compared import GPO, SPPO, ByComparisons
from prefdata.pairing.comparisons import (
    borda_counts,
    bradley_terry,
    comparisons_of_tables,
    mean_scores,
    preferences,
    win_rates,
)
from prefdata.pairing.filters import (
    BelowChosen,
    BelowChosenBySource,
    FinishReason,
    FromSource,
    LengthDifference,
    LengthRatio,
    NotFromSource,
    NotIdentical,
    Quantile,
    ScoreAtLeast,
    ScoreAtMost,
)
from prefdata.pairing.labels import ComparisonLabel, MarginLabel
from prefdata.pairing.named import (
    DNO,
    BestVsWorst,
    CustomRule,
    SnorkelPairRM,
    TopKVsBottomK,
    UltraFeedbackBinarized,
    WPOHybridV1,
    WPOHybridV2,
)
from prefdata.pairing.paired import Paired
from prefdata.pairing.python_rule import PythonRule
from prefdata.pairing.repetition import Repetition

__all__ = [
    "DNO",
    "GPO",
    "SPPO",
    "AnyRule",
    "BelowChosen",
    "BelowChosenBySource",
    "BestVsWorst",
    "ByComparisons",
    "ComparisonLabel",
    "CustomRule",
    "FinishReason",
    "First",
    "FromSource",
    "Highest",
    "LengthDifference",
    "LengthRatio",
    "Longest",
    "Lowest",
    "MarginLabel",
    "NearestLength",
    "NotFromSource",
    "NotIdentical",
    "PairRule",
    "Paired",
    "PythonRule",
    "Quantile",
    "Random",
    "Repetition",
    "ScoreAtLeast",
    "ScoreAtMost",
    "Selection",
    "Shortest",
    "SnorkelPairRM",
    "PairLimits",
    "TopKVsBottomK",
    "UltraFeedbackBinarized",
    "WPOHybridV1",
    "WPOHybridV2",
    "borda_counts",
    "bradley_terry",
    "comparisons_of_tables",
    "mean_scores",
    "preferences",
    "pair_with_backfill",
    "rule_named",
    "win_rates",
]

AnyRule = Annotated[
    WPOHybridV2
    | WPOHybridV1
    | BestVsWorst
    | SnorkelPairRM
    | UltraFeedbackBinarized
    | SPPO
    | GPO
    | ByComparisons
    | TopKVsBottomK
    | DNO
    | CustomRule
    | PythonRule,
    Field(discriminator="kind"),
]
"""Everything that a recipe's `pairs` may be."""


def rule_named() -> dict[str, type[PairRule]]:
    """The published rules by name: those that need no more than their name."""
    union = get_args(get_args(AnyRule)[0])
    return {
        rule.model_fields["kind"].default: rule
        for rule in union
        if not any(field.is_required() for field in rule.model_fields.values())
    }
