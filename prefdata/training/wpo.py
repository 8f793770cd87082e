"""`WPOTraining`: weighted preference optimisation, as keyword arguments of TRL's `DPOConfig`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from prefdata.spec import JSON, Spec

__all__ = ["WPOTraining"]


class WPOTraining(Spec):
    """DPO whose pairs are weighted by their probability under the policy (arXiv 2406.11827).

    The defaults are those of the model card Llama3-Instruct-8B-WPO-HB-v2.
    """

    kind: Literal["wpo"] = "wpo"
    model: str
    """The model that training starts from, which is also the reference: Hub id or folder."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-6
    """Peak learning rate."""
    beta: Annotated[float, Field(gt=0)] = 0.01
    """Strength of the pull towards the reference."""
    epochs: Annotated[float, Field(gt=0)] = 2.0
    """Passes over the train split."""
    per_device_batch_size: Annotated[int, Field(ge=1)] = 2
    """Pairs a device and forward pass."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 8
    """Forward passes an optimiser step."""
    devices: Annotated[int, Field(ge=1)] = 8
    """Devices of the published run; with the two above this gives the batch of 128 pairs."""
    optimizer: str = "adamw_torch"
    """A transformers optimizer name."""
    schedule: str = "cosine"
    """A transformers scheduler name."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps in which the rate rises."""
    max_length: Annotated[int, Field(ge=1)] = 2048
    """Tokens of prompt and answer together."""
    seed: int = 1
    """Seed of the trainer."""

    def trl_arguments(self) -> dict[str, JSON]:
        """Keyword arguments for `trl.DPOConfig` (TRL 1.16).

        TRL has no longer a limit of the prompt alone (the card's 1,800), and its weights are not clamped at 1 as in
        the published code.
        """
        return {
            "loss_type": ["sigmoid"],
            "use_weighting": True,
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
