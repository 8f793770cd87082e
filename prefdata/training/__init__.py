"""Training: the hyper-parameters that a recipe's dataset is meant for."""

from __future__ import annotations

from prefdata.training.wpo import WPOTraining

__all__ = ["AnyTraining", "WPOTraining"]

AnyTraining = WPOTraining
"""Everything that a recipe's `training` may be."""
