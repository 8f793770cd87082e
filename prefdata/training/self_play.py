"""`SPPOTraining` and `GPOTraining`: self-play preference optimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from prefdata.spec import JSON, Operational
from prefdata.spec.marks import Harmless
from prefdata.training.base import Strategy, Training, unless
from prefdata.training.objectives import PairLogProbs, squared_loss

if TYPE_CHECKING:
    import torch

__all__ = ["GPOTraining", "SPPOSingleTraining", "SPPOTraining"]

_LENGTH = (
    "The published code keeps the end of a prompt (512 tokens) and cuts the answer; TRL cuts the end of the whole, and "
    "drops pairs whose prompt alone is too long."
)


class _SelfPlay(Training):
    """What the two have in common: scripts and cards of SPPO and GPO have the same optimiser, batch and lengths."""

    beta: Annotated[float, Harmless, Field(gt=0)] = 0.001
    """1/eta of the papers: the target of the log-ratios is divided by it."""
    optimizer: Annotated[str, Harmless] = "rmsprop"
    """A transformers optimizer name."""
    stop_after: Annotated[Annotated[float, Field(gt=0)] | None, Harmless] = None
    """Epochs after which training stops although the schedule is made for `epochs`; None: where the schedule ends."""
    max_prompt_length: Annotated[int | None, Harmless, Field(ge=1), unless(512)] = 512
    """Tokens of the prompt alone; how the limit acts depends on `truncation`."""
    truncation: Annotated[Literal["answer_start", "prompt_end", "as_published"], Harmless, unless("as_published")] = (
        "as_published"
    )
    """What is kept of a pair that is too long: see `Training.truncation`."""
    strategy: Annotated[Strategy, Harmless, Operational, unless("zero3")] = "zero3"
    """How the model is spread over the devices."""

    own_loss: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = ("chosen_probs_win", "chosen_probs_lose")

    def _lacks(self) -> tuple[str, ...]:
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

    def loss(self, pairs: PairLogProbs) -> torch.Tensor:
        """Returns the squared loss with win rate - 1/2 of each answer as target: see `squared_loss`."""
        win, lose = (pairs.columns[name] for name in self.columns)
        return squared_loss(pairs, win - 0.5, lose - 0.5, beta=self.beta)

    @property
    def trl_lacks(self) -> tuple[str, ...]:
        """See `Training.trl_lacks`."""
        loss = (
            "The soft targets in `chosen_probs_win` and `chosen_probs_lose`: TRL's loss `sppo_hard` takes 1 and 0 "
            "for them, and has no factor 1/2."
        )
        return (loss, *self._lacks())

    def trl_arguments(self) -> dict[str, JSON]:
        """See `Training.trl_arguments`; the loss is `sppo_hard`, the nearest that TRL has."""
        return {"loss_type": ["sppo_hard"], **self._shared()}


class SPPOSingleTraining(SPPOTraining):
    """SPPO's loss `sppo_single`: targets from the probability that the chosen answer beats the rejected one."""

    kind: Literal["sppo_single"] = "sppo_single"  # type: ignore[assignment]  # a kind of its own

    columns: ClassVar[tuple[str, ...]] = ("chosen_probs",)

    def loss(self, pairs: PairLogProbs) -> torch.Tensor:
        """Returns the squared loss with P - 1/2 and 1/2 - P as targets: see `squared_loss`."""
        target = pairs.columns["chosen_probs"] - 0.5
        return squared_loss(pairs, target, -target, beta=self.beta)


class GPOTraining(_SelfPlay):
    """GPO (arXiv 2410.02197): log-ratios are drawn towards (preference score) / beta.

    The defaults are those of the model card GPO-Llama-3-8B-Instruct-GPM-2B: batches of 8 x 1 x 8 = 64 pairs, 6 epochs
    planned, stopped after 1. The repository's script passes 1.
    """

    kind: Literal["gpo"] = "gpo"
    epochs: Annotated[float, Harmless, Field(gt=0)] = 6.0
    """Passes over the train split for which the schedule is made."""
    stop_after: Annotated[Annotated[float, Field(gt=0)] | None, Harmless] = 1.0
    """Epochs after which training stops although the schedule is made for `epochs`; None: where the schedule ends."""
    doubled: Annotated[bool, Harmless, unless(False)] = False
    """Whether a target is twice the column's score, as the published data script writes it; False is the paper's form.

    Leave it off for a dataset whose pair rule doubled the scores already.
    """
    clamp_target: Annotated[float | None, Harmless, Field(gt=0), unless(None)] = None
    """Bound of score / beta on both sides. The authors' script sets CLAMP_THRES=1000; its meaning is not published."""

    def loss(self, pairs: PairLogProbs) -> torch.Tensor:
        """Returns the squared loss with the mean preference score of each answer as target: see `squared_loss`."""
        factor = 2 if self.doubled else 1
        chosen, rejected = (factor * pairs.columns[name] for name in self.columns)
        return squared_loss(pairs, chosen, rejected, beta=self.beta, clamp_target=self.clamp_target)

    @property
    def trl_lacks(self) -> tuple[str, ...]:
        """See `Training.trl_lacks`."""
        loss = (
            "The loss: a squared error whose targets stand in `chosen_probs_win` and `chosen_probs_lose`. TRL's "
            "`sppo_hard` has its form, with targets of ±1/2 that know nothing of the scores."
        )
        return (loss, *self._lacks())

    def trl_arguments(self) -> dict[str, JSON]:
        """See `Training.trl_arguments`; the loss is `sppo_hard`, the nearest that TRL has."""
        return {"loss_type": ["sppo_hard"], **self._shared()}
