"""Training: the hyper-parameters that a recipe's dataset is meant for."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from prefdata.spec.own import Own
from prefdata.training.base import Training
from prefdata.training.dpo import DPOTraining
from prefdata.training.python import PythonTraining
from prefdata.training.self_play import GPOTraining, SPPOTraining
from prefdata.training.simpo import SimPOTraining
from prefdata.training.wpo import WPOTraining

__all__ = [
    "AnyTraining",
    "DPOTraining",
    "GPOTraining",
    "PythonTraining",
    "SPPOTraining",
    "SimPOTraining",
    "Training",
    "WPOTraining",
]

AnyTraining: TypeAlias = Annotated[
    WPOTraining | DPOTraining | SPPOTraining | GPOTraining | SimPOTraining | PythonTraining,
    Field(discriminator="kind"),
    Own(Training, stand_in=PythonTraining),
]
"""Everything that a recipe's `training` may be."""
