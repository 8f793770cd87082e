"""`Training`: hyper-parameters of preference training, as data."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from prefdata.spec import JSON, Spec

__all__ = ["Training"]


class Training(Spec):
    """What every preference training has. Each subclass says which publication its defaults are taken from."""

    room: ClassVar[str] = "training objective"

    model: str
    """The model that training starts from: Hub id or folder. Where there is a reference model, it is this one."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-7
    """Peak learning rate."""
    beta: Annotated[float, Field(gt=0)] = 0.01
    """Strength of the pull towards the reference; in SimPO the scale of the rewards."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the train split for which the schedule is made."""
    per_device_batch_size: Annotated[int, Field(ge=1)] = 8
    """Pairs a device and forward pass."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    """Forward passes an optimiser step."""
    devices: Annotated[int, Field(ge=1)] = 8
    """Devices of the published run; with the two above this gives the batch."""
    optimizer: str = "adamw_torch"
    """A transformers optimizer name."""
    schedule: str = "linear"
    """A transformers scheduler name."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps in which the rate rises."""
    max_length: Annotated[int, Field(ge=1)] = 1024
    """Tokens of prompt and answer together."""
    seed: int = 42
    """Seed of the trainer."""

    @property
    def batch_size(self) -> int:
        """Pairs an optimiser step, over all devices."""
        return self.per_device_batch_size * self.gradient_accumulation_steps * self.devices

    @property
    def trl_config(self) -> Literal["trl.DPOConfig", "trl.experimental.cpo.CPOConfig"]:
        """Which of TRL's configurations takes `trl_arguments`."""
        return "trl.DPOConfig"

    @property
    def trl_lacks(self) -> tuple[str, ...]:
        """What of this training TRL 1.16 can't be told, one sentence each."""
        return ()

    @abstractmethod
    def trl_arguments(self) -> dict[str, JSON]:
        """Keyword arguments for `trl_config` (TRL 1.16)."""

    def _shared(self) -> dict[str, JSON]:
        return {
            "learning_rate": self.learning_rate,
            "beta": self.beta,
            "num_train_epochs": self.epochs,
            "per_device_train_batch_size": self.per_device_batch_size,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "optim": self.optimizer,
            "lr_scheduler_type": self.schedule,
            "warmup_steps": self.warmup,
            "max_length": self.max_length,
            "seed": self.seed,
        }
