"""Defines `ArmoRM`, a reward model of nineteen objectives, weighted by a gate that reads the prompt."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from prefdata.scoring.rewards._pointwise import PointwiseModel
from prefdata.spec import JSON, Context
from prefdata.spec.marks import MODEL, Harmless

__all__ = ["ArmoRM"]


class ArmoRM(PointwiseModel):
    """ArmoRM (Wang et al., 2024, arXiv:2406.12845), from the weights of `RLHFlow/ArmoRM-Llama3-8B-v0.1`.

    The score is the sum over objectives of gate times transformed reward. The rewards are a linear layer on the state
    of the last token, multiplied by the published matrix that removes verbosity; the gate is a softmax of an MLP on
    the state at the end of the prompt. The score is a small number, mostly between 0 and 1. The published code does not
    import in transformers 5, and a plain classifier with these weights gives other numbers, so prefdata has a loader of
    its own, which runs no code from the Hub. The heads compute in float32, with any `dtype` of the backbone.

    An answer whose template writes no assistant turn of Llama 3 is unscored: `no_gate_position`.
    """

    kind: Literal["armorm"] = "armorm"
    model: Annotated[str, MODEL, Field(min_length=1)] = "RLHFlow/ArmoRM-Llama3-8B-v0.1"
    """A local Hugging Face folder or a Hub id, with the published names of tensors."""
    objectives: Annotated[bool, Harmless] = False
    """Stores the reward of each objective, before the transformation, as JSON in the detail of a score."""

    def _worker(self) -> str:
        return "prefdata.scoring.rewards._armorm_worker"

    def _config(self, context: Context) -> dict[str, JSON]:
        return {**super()._config(context), "objectives": self.objectives}
