"""`SimPOTraining` and `CPOTraining`: objectives without a reference, run by TRL's CPO trainer."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from prefdata.spec import JSON
from prefdata.spec.marks import Harmless
from prefdata.training.base import Training

__all__ = ["CPOTraining", "SimPOTraining"]


class SimPOTraining(Training):
    """SimPO (arXiv 2405.14734): mean log-probabilities as rewards, with a margin, and no reference model.

    The defaults are those of training_configs/llama-3-8b-instruct-simpo-v2.yaml of github.com/princeton-nlp/SimPO:
    batches of 2 x 16 x 4 = 128 pairs.
    """

    kind: Literal["simpo"] = "simpo"
    learning_rate: Annotated[float, Harmless, Field(gt=0)] = 1e-6
    """Peak learning rate."""
    beta: Annotated[float, Harmless, Field(gt=0)] = 10.0
    """Scale of the rewards."""
    gamma_beta_ratio: Annotated[float, Harmless, Field(ge=0)] = 0.3
    """The margin that chosen should have over rejected, divided by beta."""
    per_device_batch_size: Annotated[int, Harmless, Field(ge=1)] = 2
    """Pairs a device and forward pass."""
    gradient_accumulation_steps: Annotated[int, Harmless, Field(ge=1)] = 16
    """Forward passes an optimiser step."""
    devices: Annotated[int, Harmless, Field(ge=1)] = 4
    """Devices of the published run; with the two above this gives the batch."""
    schedule: Annotated[str, Harmless] = "cosine"
    """A transformers scheduler name."""
    max_length: Annotated[int, Harmless, Field(ge=1)] = 2048
    """Tokens of prompt and answer together."""

    trainer: ClassVar[Literal["dpo", "cpo", "kto"]] = "cpo"

    @property
    def trl_config(self) -> Literal["trl.DPOConfig", "trl.KTOConfig", "trl.experimental.cpo.CPOConfig"]:
        """See `Training.trl_config`."""
        return "trl.experimental.cpo.CPOConfig"

    def trl_arguments(self) -> dict[str, JSON]:
        """See `Training.trl_arguments`. `cpo_alpha` 0 leaves out CPO's term of imitation."""
        margin = round(self.gamma_beta_ratio * self.beta, 12)
        return {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": margin, **self._shared()}


class CPOTraining(Training):
    """CPO (arXiv 2401.08417): DPO with a uniform reference, and a term that imitates the chosen answer.

    The defaults are those of TRL's `CPOConfig`, with batches of 8 x 2 x 8 = 128 pairs.
    """

    kind: Literal["cpo"] = "cpo"
    learning_rate: Annotated[float, Harmless, Field(gt=0)] = 1e-6
    """Peak learning rate."""
    beta: Annotated[float, Harmless, Field(gt=0)] = 0.1
    """Scale of the rewards."""
    alpha: Annotated[float, Harmless, Field(ge=0)] = 1.0
    """Weight of the term that imitates the chosen answer."""
    gradient_accumulation_steps: Annotated[int, Harmless, Field(ge=1)] = 2
    """Forward passes an optimiser step."""

    trainer: ClassVar[Literal["dpo", "cpo", "kto"]] = "cpo"

    @property
    def trl_config(self) -> Literal["trl.DPOConfig", "trl.KTOConfig", "trl.experimental.cpo.CPOConfig"]:
        """See `Training.trl_config`."""
        return "trl.experimental.cpo.CPOConfig"

    def trl_arguments(self) -> dict[str, JSON]:
        """See `Training.trl_arguments`."""
        return {"loss_type": "sigmoid", "cpo_alpha": self.alpha, **self._shared()}
