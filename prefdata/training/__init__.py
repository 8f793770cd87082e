"""Training: objectives with their hyper-parameters, and what runs them."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from prefdata.spec.own import Own
from prefdata.training.base import Training
from prefdata.training.dpo import DPOTraining, NormalisedDPOTraining
from prefdata.training.kto import KTOTraining
from prefdata.training.options import Limits, LoRA
from prefdata.training.python import PythonTraining
from prefdata.training.self_play import GPOTraining, SPPOSingleTraining, SPPOTraining
from prefdata.training.simpo import CPOTraining, SimPOTraining
from prefdata.training.wpo import WPOTraining

__all__ = [
    "AnyTraining",
    "CPOTraining",
    "DPOTraining",
    "GPOTraining",
    "KTOTraining",
    "Limits",
    "LoRA",
    "NormalisedDPOTraining",
    "PythonTraining",
    "SPPOSingleTraining",
    "SPPOTraining",
    "SimPOTraining",
    "Training",
    "WPOTraining",
]

AnyTraining: TypeAlias = Annotated[
    WPOTraining
    | DPOTraining
    | NormalisedDPOTraining
    | SPPOTraining
    | SPPOSingleTraining
    | GPOTraining
    | SimPOTraining
    | CPOTraining
    | KTOTraining
    | PythonTraining,
    Field(discriminator="kind"),
    Own(Training, stand_in=PythonTraining),
]
"""Everything that a recipe's `training` may be."""
