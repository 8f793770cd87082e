"""`SPPOTraining` and `GPOTraining`: self-play preference optimisation, as far as TRL's `DPOConfig` knows it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from prefdata.spec import JSON
from prefdata.training.base import Training

__all__ = ["GPOTraining", "SPPOTraining"]

_LENGTH = (
    "The published code keeps the end of a prompt (512 tokens) and cuts the answer; TRL cuts the end of the whole, and "
    "drops pairs whose prompt alone is too long."
)


class _SelfPlay(Training):
    """What the two have in common: scripts and cards of SPPO and GPO have the same optimiser, batch and lengths."""

    beta: Annotated[float, Field(gt=0)] = 0.001
    """1/eta of the papers: the target of the log-ratios is divided by it."""
    optimizer: str = "rmsprop"
    """A transformers optimizer name."""
    stop_after: Annotated[float, Field(gt=0)] | None = None
    """Epochs after which training stops although the schedule is made for `epochs`; None: where the schedule ends."""

    def _not_told(self) -> tuple[str, ...]:
        if self.stop_after is None:
            return (_LENGTH,)
        stop = (
            f"Training stops after {self.stop_after:g} of {self.epochs:g} planned epochs: the trainer needs a callback."
        )
        return (stop, _LENGTH)


class SPPOTraining(_SelfPlay):
    """SPPO (arXiv 2405.00675): log-ratios are drawn towards (win rate - 1/2) / beta.

    The defaults are those of run_sppo_*.sh of github.com/uclaml/SPPO: batches of 8 x 1 x 8 = 64 pairs, one epoch. The
    paper schedules 18 epochs and takes the model after the first, the repository's YAML file has 6.
    """

    kind: Literal["sppo"] = "sppo"

    @property
    def trl_lacks(self) -> tuple[str, ...]:
        """See `Training.trl_lacks`."""
        loss = (
            "The soft targets in `chosen_probs_win` and `chosen_probs_lose`: TRL's loss `sppo_hard` takes 1 and 0 "
            "for them, and has no factor 1/2."
        )
        return (loss, *self._not_told())

    def trl_arguments(self) -> dict[str, JSON]:
        """See `Training.trl_arguments`; the loss is `sppo_hard`, the nearest that TRL has."""
        return {"loss_type": ["sppo_hard"], **self._shared()}


class GPOTraining(_SelfPlay):
    """GPO (arXiv 2410.02197): log-ratios are drawn towards (preference score) / beta.

    The defaults are those of the model card GPO-Llama-3-8B-Instruct-GPM-2B: batches of 8 x 1 x 8 = 64 pairs, 6 epochs
    planned, stopped after 1. The repository's script passes 1.
    """

    kind: Literal["gpo"] = "gpo"
    epochs: Annotated[float, Field(gt=0)] = 6.0
    """Passes over the train split for which the schedule is made."""
    stop_after: Annotated[float, Field(gt=0)] | None = 1.0
    """Epochs after which training stops although the schedule is made for `epochs`; None: where the schedule ends."""

    @property
    def trl_lacks(self) -> tuple[str, ...]:
        """See `Training.trl_lacks`."""
        loss = (
            "The loss: a squared error whose targets stand in `chosen_probs_win` and `chosen_probs_lose`. TRL's "
            "`sppo_hard` has its form, with targets of ±1/2 that know nothing of the scores."
        )
        return (loss, *self._not_told())

    def trl_arguments(self) -> dict[str, JSON]:
        """See `Training.trl_arguments`; the loss is `sppo_hard`, the nearest that TRL has."""
        return {"loss_type": ["sppo_hard"], **self._shared()}
