"""`DPOTraining`: direct preference optimisation, as keyword arguments of TRL's `DPOConfig`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from prefdata.spec import JSON
from prefdata.training.base import Training

__all__ = ["DPOTraining"]


class DPOTraining(Training):
    """DPO (arXiv 2305.18290) with its sigmoid loss.

    The defaults are those of the alignment-handbook's Zephyr-7B-beta: batches of 8 x 2 x 8 = 128 pairs.
    """

    kind: Literal["dpo"] = "dpo"
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 2
    """Forward passes an optimiser step."""
    schedule: str = "cosine"
    """A transformers scheduler name."""

    @property
    def trl_lacks(self) -> tuple[str, ...]:
        """See `Training.trl_lacks`."""
        return ("The handbook limits the prompt alone to 512 tokens; TRL limits prompt and answer together only.",)

    def trl_arguments(self) -> dict[str, JSON]:
        """See `Training.trl_arguments`."""
        return {"loss_type": ["sigmoid"], **self._shared()}
