"""Scores candidates: by an existing column, a judge, a reward model, or a combination of these."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from prefdata.scoring.base import CompositeScorer, GroupScorer, Scorer
from prefdata.scoring.baseline import BaselineScorer
from prefdata.scoring.combined.agreement import kendall_tau_b, krippendorff_alpha
from prefdata.scoring.combined.ensemble import Ensemble
from prefdata.scoring.combined.length_debiased import LengthDebiased
from prefdata.scoring.given import GivenScores
from prefdata.scoring.judges.additive import AdditiveJudge
from prefdata.scoring.judges.pairwise import PairwiseJudge
from prefdata.scoring.judges.pointwise import PointwiseJudge
from prefdata.scoring.python import PythonScorer
from prefdata.scoring.rewards.armorm import ArmoRM
from prefdata.scoring.rewards.gpm import GPM
from prefdata.scoring.rewards.pair_rm import PairRM
from prefdata.scoring.rewards.reward_model import RewardModel
from prefdata.spec.own import Own

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
    "PythonScorer",
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
    | LengthDebiased
    | PythonScorer,
    Field(discriminator="kind"),
    Own(Scorer, stand_in=PythonScorer),
]
"""Every scorer that a recipe can name; the field `kind` says which one it is."""

# Scorers made of other scorers were defined before the union.
for _composite in (Ensemble, LengthDebiased):
    _composite.model_rebuild(_types_namespace={"AnyScorer": AnyScorer})
