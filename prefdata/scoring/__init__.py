"""Where scores come from: a column that is there already, a judge, a reward model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from prefdata.scoring.additive_judge import AdditiveJudge
from prefdata.scoring.base import Scorer
from prefdata.scoring.given import GivenScores
from prefdata.scoring.reward_model import RewardModel

__all__ = ["AdditiveJudge", "AnyScorer", "GivenScores", "RewardModel", "Scorer"]

AnyScorer = Annotated[GivenScores | AdditiveJudge | RewardModel, Field(discriminator="kind")]
"""What a recipe may name as its scorer."""
