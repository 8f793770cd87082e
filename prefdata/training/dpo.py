"""`DPOTraining`: direct preference optimisation, as keyword arguments of TRL's `DPOConfig`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from prefdata.spec import JSON
from prefdata.spec.marks import Harmless
from prefdata.training.base import Training, unless

__all__ = ["DPOTraining", "NormalisedDPOTraining"]


class DPOTraining(Training):
    """DPO (arXiv 2305.18290) with its sigmoid loss; TRL's other losses and mixes of them go into `trl`.

    `trl={"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.1]}` for instance, or `"ld_alpha"`, or
    `"f_divergence_type"`: none of TRL's computation is replaced.

    The defaults are those of the alignment-handbook's Zephyr-7B-beta: batches of 8 x 2 x 8 = 128 pairs.
    """

    kind: Literal["dpo"] = "dpo"
    gradient_accumulation_steps: Annotated[int, Harmless, Field(ge=1)] = 2
    """Forward passes an optimiser step."""
    schedule: Annotated[str, Harmless] = "cosine"
    """A transformers scheduler name."""
    max_prompt_length: Annotated[int | None, Harmless, Field(ge=1), unless(512)] = 512
    """Tokens of the prompt alone; how the limit acts depends on `truncation`."""
    truncation: Annotated[Literal["answer_start", "prompt_end", "as_published"], Harmless, unless("as_published")] = (
        "as_published"
    )
    """What is kept of a pair that is too long: see `Training.truncation`."""

    @property
    def trl_lacks(self) -> tuple[str, ...]:
        """See `Training.trl_lacks`."""
        return ("The handbook limits the prompt alone to 512 tokens; TRL limits prompt and answer together only.",)

    def trl_arguments(self) -> dict[str, JSON]:
        """See `Training.trl_arguments`."""
        return {"loss_type": ["sigmoid"], **self._shared()}


class NormalisedDPOTraining(Training):
    """DPO whose log-ratios are divided by the lengths of the answers: TRL's loss `sigmoid_norm`.

    The defaults are those of Tulu 3 8B (arXiv 2411.15124, table 20): batches of 1 x 16 x 8 = 128 pairs.
    """

    kind: Literal["dpo_norm"] = "dpo_norm"
    beta: Annotated[float, Harmless, Field(gt=0)] = 5.0
    """Strength of the pull towards the reference; large, since log-ratios are means over tokens."""
    per_device_batch_size: Annotated[int, Harmless, Field(ge=1)] = 1
    """Pairs a device and forward pass."""
    gradient_accumulation_steps: Annotated[int, Harmless, Field(ge=1)] = 16
    """Forward passes an optimiser step."""
    max_length: Annotated[int, Harmless, Field(ge=1)] = 2048
    """Tokens of prompt and answer together."""

    def trl_arguments(self) -> dict[str, JSON]:
        """See `Training.trl_arguments`."""
        return {"loss_type": ["sigmoid_norm"], **self._shared()}
