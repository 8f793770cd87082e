"""Losses that TRL lacks, as functions of log-probabilities. Each names the publication that its formula is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from prefdata.lazy import Lazy

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as functional
else:
    torch, functional = Lazy("torch"), Lazy("torch.nn.functional")

__all__ = ["Alignment", "PairLogProbs", "pair_weights", "sigmoid_loss", "squared_loss"]

Alignment = Literal["sampled", "greedy", "none"]
"""What a token's log-probability is compared with in WPO's weights."""


@dataclass
class PairLogProbs:
    """What a batch of B pairs says of policy and reference.

    Rows 0 to B-1 are the chosen answers, B to 2B-1 the rejected ones.

    Sums are over the tokens of the answer, which are those where `mask` is 1.
    """

    log_probs: torch.Tensor
    """Of each token under the policy, shape (2B, T)."""
    mask: torch.Tensor
    """1 for the tokens of the answers, 0 elsewhere; shape (2B, T)."""
    reference: torch.Tensor
    """Sums of the reference's log-probabilities, shape (2B,)."""
    log_sum_squares: torch.Tensor | None = None
    """log of the sum over the vocabulary of p², shape (2B, T)."""
    log_max: torch.Tensor | None = None
    """log of the largest probability at each position, shape (2B, T)."""
    columns: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Numbers of the dataset's rows, each of shape (B,)."""

    @property
    def log_ratios(self) -> tuple[torch.Tensor, torch.Tensor]:
        """log(policy / reference) of the chosen and of the rejected answers, each of shape (B,)."""
        chosen, rejected = ((self.log_probs * self.mask).sum(1) - self.reference).chunk(2)
        return chosen, rejected


def sigmoid_loss(
    pairs: PairLogProbs, *, beta: float, label_smoothing: float = 0.0, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns the mean over pairs of w (-(1-e) log sigmoid(bh) - e log sigmoid(-bh)).

    h is the log-ratio of the chosen answer less that of the rejected one, b is beta and e the label smoothing.

    Source: DPO, arXiv 2305.18290, equation 7; label smoothing as in conservative DPO.
    """
    chosen, rejected = pairs.log_ratios
    margin = beta * (chosen - rejected)
    losses = -functional.logsigmoid(margin)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing * functional.logsigmoid(-margin)
    return (losses if weights is None else weights * losses).mean()


def pair_weights(pairs: PairLogProbs, *, alignment: Alignment, clamp: bool) -> torch.Tensor:
    """Returns WPO's weight of each pair, shape (B,), without a gradient.

    exp of the mean aligned log-probability of the chosen answer's tokens plus that of the rejected one's, at most 1
    where `clamp` is set. Aligned is log p minus log Σp² (`sampled`), log max p (`greedy`) or 0 (`none`).

    Source: arXiv 2406.11827, section 3.2; the clamp is that of scripts/run_wpo.py of github.com/wzhouad/WPO.
    """
    with torch.no_grad():
        subtracted = {"sampled": pairs.log_sum_squares, "greedy": pairs.log_max, "none": None}[alignment]
        aligned = pairs.log_probs if subtracted is None else pairs.log_probs - subtracted
        means = (aligned * pairs.mask).sum(1) / pairs.mask.sum(1).clamp(min=1)
        chosen, rejected = means.chunk(2)
        weights = (chosen + rejected).exp()
        return weights.clamp(max=1) if clamp else weights


def squared_loss(
    pairs: PairLogProbs,
    targets_chosen: torch.Tensor,
    targets_rejected: torch.Tensor,
    *,
    beta: float,
    clamp_target: float | None = None,
) -> torch.Tensor:
    """Returns the mean over pairs of half the squared distances of the log-ratios from target / beta.

    Source: SPPO, arXiv 2405.00675, equation 4.7, with the factor 1/2 of sppo/trainer.py of github.com/uclaml/SPPO; GPO,
    arXiv 2410.02197, has the same form with preference scores for targets.

    Args:
        pairs: the batch.
        targets_chosen: shape (B,).
        targets_rejected: shape (B,).
        beta: 1/eta of the papers.
        clamp_target: bound of target / beta on both sides.
    """
    losses = torch.zeros_like(targets_chosen)
    for log_ratios, targets in zip(pairs.log_ratios, (targets_chosen, targets_rejected), strict=True):
        scaled = targets / beta
        if clamp_target is not None:
            scaled = scaled.clamp(-clamp_target, clamp_target)
        losses = losses + (log_ratios - scaled) ** 2 / 2
    return losses.mean()
