"""Where scores come from: a column that is there already, a judge, a reward model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from prefdata.scoring.additive_judge import AdditiveJudge
from prefdata.scoring.agreement import kendall_tau_b, krippendorff_alpha
from prefdata.scoring.armorm import ArmoRM
from prefdata.scoring.base import CompositeScorer, GroupScorer, Scorer
from prefdata.scoring.baseline import BaselineScorer
from prefdata.scoring.ensemble import Ensemble
from prefdata.scoring.given import GivenScores
from prefdata.scoring.gpm import GPM
from prefdata.scoring.length_debiased import LengthDebiased
from prefdata.scoring.pair_rm import PairRM
from prefdata.scoring.pairwise_judge import PairwiseJudge
from prefdata.scoring.pointwise_judge import PointwiseJudge
from prefdata.scoring.reward_model import RewardModel

__all__ = [
    "GPM",
    "AdditiveJudge",
    "AnyScorer",
    "ArmoRM",
    "BaselineScorer",
    "CompositeScorer",
    "Ensemble",
    "GivenScores",
    "GroupScorer",
    "LengthDebiased",
    "PairRM",
    "PairwiseJudge",
    "PointwiseJudge",
    "RewardModel",
    "Scorer",
    "kendall_tau_b",
    "krippendorff_alpha",
]

AnyScorer = Annotated[
    GivenScores
    | AdditiveJudge
    | PointwiseJudge
    | PairwiseJudge
    | RewardModel
    | ArmoRM
    | PairRM
    | GPM
    | BaselineScorer
    | Ensemble
    | LengthDebiased,
    Field(discriminator="kind"),
]
"""What a recipe may name as its scorer."""

# Those that are made of other scorers were defined before the union was.
for _composite in (Ensemble, LengthDebiased):
    _composite.model_rebuild(_types_namespace={"AnyScorer": AnyScorer})
