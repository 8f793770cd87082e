"""`KTOTraining`: Kahneman-Tversky optimisation, run by TRL's KTO trainer."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from prefdata.spec import JSON
from prefdata.spec.marks import Harmless
from prefdata.training.base import Training, unless

__all__ = ["KTOTraining"]


class KTOTraining(Training):
    """KTO (arXiv 2402.01306) on single answers: the layout `kto`, or the two answers of each pair.

    The defaults are those of TRL's `KTOConfig`, with batches of 8 x 2 x 8 = 128 answers. Rows are shuffled once, by the
    seed: the KL term is estimated from a row's neighbours.
    """

    kind: Literal["kto"] = "kto"
    learning_rate: Annotated[float, Harmless, Field(gt=0)] = 1e-6
    """Peak learning rate."""
    beta: Annotated[float, Harmless, Field(gt=0)] = 0.1
    """Strength of the pull towards the reference."""
    gradient_accumulation_steps: Annotated[int, Harmless, Field(ge=1)] = 2
    """Forward passes an optimiser step."""
    desirable_weight: Annotated[float, Harmless, Field(gt=0)] = 1.0
    """Weight of the chosen answers' losses."""
    undesirable_weight: Annotated[float, Harmless, Field(gt=0)] = 1.0
    """Weight of the rejected answers' losses."""
    per_device_batch_size: Annotated[int, Harmless, Field(ge=2)] = 8
    """Answers a device and forward pass; one alone gives no KL term."""
    group_by_length: Annotated[Literal[False], Harmless, unless(False)] = False
    """Never: the order of the rows belongs to the objective."""

    trainer: ClassVar[Literal["dpo", "cpo", "kto"]] = "kto"

    @property
    def trl_config(self) -> Literal["trl.DPOConfig", "trl.KTOConfig", "trl.experimental.cpo.CPOConfig"]:
        """See `Training.trl_config`."""
        return "trl.KTOConfig"

    def trl_arguments(self) -> dict[str, JSON]:
        """See `Training.trl_arguments`."""
        weights = {"desirable_weight": self.desirable_weight, "undesirable_weight": self.undesirable_weight}
        return {"loss_type": "kto", "train_sampling_strategy": "sequential", **weights, **self._shared()}
