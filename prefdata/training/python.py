"""`PythonTraining`: what a recipe's JSON says of a training objective of the user's own."""

from __future__ import annotations

from prefdata.spec import JSON
from prefdata.spec.own import OwnCode
from prefdata.training.base import Training

__all__ = ["PythonTraining"]


class PythonTraining(OwnCode, Training):
    """A subclass of `Training` by its import path. Where code is allowed, a recipe holds an instance in its place."""

    def trl_arguments(self) -> dict[str, JSON]:
        """Refuses: the class is not loaded.

        Raises:
            RecipeError: always.
        """
        self.code.check_allowed()
        raise self.not_loaded()
