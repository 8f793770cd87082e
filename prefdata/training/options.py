"""Options that every training has: adapters, and the limits of the preflight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from prefdata.spec import Spec
from prefdata.spec.marks import Harmless

__all__ = ["DROPPED", "Limits", "LoRA", "Reason"]

Reason = Literal[
    "unknown_role",
    "prompts_differ",
    "empty_side",
    "no_number",
    "template_failed",
    "prompt_fills",
    "equal_after_cut",
    "two_bos",
    "prompt_not_prefix",
    "answer_cut",
    "prompt_cut",
    "thinking_on_one_side",
    "control_tokens",
]
"""What the preflight counts: see `docs/train.md`."""
DROPPED: tuple[Reason, ...] = get_args(Reason)[:7]
"""Reasons for which a row is not trained on; of the others a row is counted and trained on."""

_Share = Annotated[float, Field(ge=0, le=1)]


class LoRA(Spec):
    """A low-rank adapter (arXiv 2106.09685), trained in place of the model's own weights. Needs the package peft."""

    rank: Annotated[int, Harmless, Field(ge=1)] = 16
    """Rank of the update."""
    alpha: Annotated[float, Harmless, Field(gt=0)] = 32
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Harmless, Field(ge=0, lt=1)] = 0.0
    """Dropout before the adapter. Above 0 the first step is not at the reference, and its check is left out."""
    target_modules: Annotated[tuple[str, ...] | Literal["all-linear"], Harmless] = "all-linear"
    """Layers that get an adapter; the language-model head can't have one."""
    quantization: Annotated[Literal["none", "4bit"], Harmless] = "none"
    """`4bit` keeps the frozen weights in NF4 (QLoRA, arXiv 2305.14314); needs a GPU and the package bitsandbytes."""


class Limits(Spec):
    """Shares of rows above which the preflight warns or stops; a reason that is not named only counts."""

    warn: Annotated[Mapping[Reason, _Share], Harmless] = dict.fromkeys(get_args(Reason), 0.0)
    """Reason → share of rows above which a warning is printed."""
    stop: Annotated[Mapping[Reason, _Share], Harmless] = {
        "two_bos": 0.5,
        "prompt_not_prefix": 0.5,
        "template_failed": 0.0,
    }
    """Reason → share of rows above which nothing is trained."""
    stop_dropped: Annotated[_Share, Harmless] = 0.5
    """Share of dropped rows, over all reasons, above which nothing is trained."""
