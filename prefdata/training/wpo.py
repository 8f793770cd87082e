"""`WPOTraining`: weighted preference optimisation, as keyword arguments of TRL's `DPOConfig`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from prefdata.spec import JSON
from prefdata.training.base import Training

__all__ = ["WPOTraining"]


class WPOTraining(Training):
    """DPO whose pairs are weighted by their probability under the policy (arXiv 2406.11827).

    The defaults are those of the model card Llama3-Instruct-8B-WPO-HB-v2: batches of 2 x 8 x 8 = 128 pairs.
    """

    kind: Literal["wpo"] = "wpo"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-6
    """Peak learning rate."""
    epochs: Annotated[float, Field(gt=0)] = 2.0
    """Passes over the train split."""
    per_device_batch_size: Annotated[int, Field(ge=1)] = 2
    """Pairs a device and forward pass."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 8
    """Forward passes an optimiser step."""
    schedule: str = "cosine"
    """A transformers scheduler name."""
    max_length: Annotated[int, Field(ge=1)] = 2048
    """Tokens of prompt and answer together."""
    seed: int = 1
    """Seed of the trainer."""

    @property
    def trl_lacks(self) -> tuple[str, ...]:
        """See `Training.trl_lacks`."""
        return (
            "The published code clamps the product of a pair's two weights at 1; TRL has not done so since 0.29.",
            "The published code limits the prompt alone to 1,800 tokens; TRL limits prompt and answer together only.",
        )

    def trl_arguments(self) -> dict[str, JSON]:
        """See `Training.trl_arguments`."""
        return {"loss_type": ["sigmoid"], "use_weighting": True, **self._shared()}
