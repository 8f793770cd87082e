"""`WPOTraining`: weighted preference optimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from prefdata.spec import JSON
from prefdata.spec.marks import Harmless
from prefdata.training.base import Training, unless
from prefdata.training.objectives import Alignment, PairLogProbs, pair_weights, sigmoid_loss

if TYPE_CHECKING:
    import torch

__all__ = ["WPOTraining"]


class WPOTraining(Training):
    """DPO whose pairs are weighted by their probability under the policy (arXiv 2406.11827).

    The defaults are those of the model card Llama3-Instruct-8B-WPO-HB-v2: batches of 2 x 8 x 8 = 128 pairs.
    """

    kind: Literal["wpo"] = "wpo"
    learning_rate: Annotated[float, Harmless, Field(gt=0)] = 1e-6
    """Peak learning rate."""
    epochs: Annotated[float, Harmless, Field(gt=0)] = 2.0
    """Passes over the train split."""
    per_device_batch_size: Annotated[int, Harmless, Field(ge=1)] = 2
    """Pairs a device and forward pass."""
    gradient_accumulation_steps: Annotated[int, Harmless, Field(ge=1)] = 8
    """Forward passes an optimiser step."""
    schedule: Annotated[str, Harmless] = "cosine"
    """A transformers scheduler name."""
    max_length: Annotated[int, Harmless, Field(ge=1)] = 2048
    """Tokens of prompt and answer together."""
    seed: Annotated[int, Harmless] = 1
    """Seed of the trainer."""
    max_prompt_length: Annotated[int | None, Harmless, Field(ge=1), unless(1800)] = 1800
    """Tokens of the prompt alone; how the limit acts depends on `truncation`."""
    truncation: Annotated[Literal["answer_start", "prompt_end", "as_published"], Harmless, unless("as_published")] = (
        "as_published"
    )
    """What is kept of a pair that is too long: see `Training.truncation`."""
    alignment: Annotated[Alignment, Harmless, unless("sampled")] = "sampled"
    """What a token's log-probability is compared with in the weights; `greedy` costs a forward pass more."""
    clamp: Annotated[bool, Harmless, unless(True)] = True
    """Whether the weight of a pair is at most 1, as in the published code; TRL's own WPO has no such bound."""
    label_smoothing: Annotated[float, Harmless, Field(ge=0, lt=0.5), unless(0.0)] = 0.0
    """Probability that the labels of a pair are the wrong way round."""

    own_loss: ClassVar[bool] = True

    @property
    def trl_lacks(self) -> tuple[str, ...]:
        """See `Training.trl_lacks`."""
        return (
            "The published code clamps the product of a pair's two weights at 1; TRL has not done so since 0.29.",
            "The published code limits the prompt alone to 1,800 tokens; TRL limits prompt and answer together only.",
        )

    @property
    def needs_max_probability(self) -> bool:
        """See `Training.needs_max_probability`."""
        return self.alignment == "greedy"

    def loss(self, pairs: PairLogProbs) -> torch.Tensor:
        """Returns the sigmoid loss, each pair weighted by its probability under the policy: see `pair_weights`."""
        weights = pair_weights(pairs, alignment=self.alignment, clamp=self.clamp)
        return sigmoid_loss(pairs, beta=self.beta, label_smoothing=self.label_smoothing, weights=weights)

    def trl_arguments(self) -> dict[str, JSON]:
        """See `Training.trl_arguments`."""
        return {"loss_type": ["sigmoid"], "use_weighting": True, **self._shared()}
