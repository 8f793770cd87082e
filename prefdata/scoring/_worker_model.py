"""What all scorers have in common that run a model in a worker process."""

from __future__ import annotations

import math
import os
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from prefdata.errors import MissingExtraError, UserError
from prefdata.models import model_folder, model_pins
from prefdata.records import Candidate, Comparison
from prefdata.scoring.base import Scorer
from prefdata.spec import JSON, Context, Operational

__all__ = ["Ranker", "WorkerModel", "compared", "cut_detail"]


class WorkerModel(Scorer):
    """A model that scores in a process of its own."""

    what: ClassVar[str] = "a reward model"
    """What messages call it."""
    model: Annotated[str, Field(min_length=1)]
    """A local Hugging Face folder or a Hub id."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model; the lock keeps the commit that it meant."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "float32"
    """What the model computes in; auto takes what its weights are stored in."""
    too_long: Literal["truncate", "unscored"] = "truncate"
    """What becomes of a text beyond its limit: its beginning counts and it is counted, or it is unscored."""
    control_tokens: Literal["refuse", "allow"] = "refuse"
    """What to do with a text that spells out a control token such as `<|im_end|>`: its author could end the turn."""
    batch_tokens: Annotated[int, Operational, Field(ge=1)] = 8192
    """Tokens of a batch, padding included; a longer row is a batch by itself."""

    def pins(self) -> dict[str, JSON]:
        """The model's commit or hash, and the hashes of its tokenizer and chat template."""
        return {**super().pins(), **model_pins(self.model, self.revision)}

    def problems(self) -> list[UserError]:
        """Missing packages."""
        missing = MissingExtraError.all_of(self.what, "transformers", "torch", "transformers")
        return [*super().problems(), *missing]

    def _config(self, context: Context) -> dict[str, JSON]:
        return {
            "folder": str(model_folder(self.model, context.pins, self.revision)),
            "dtype": self.dtype,
            "truncate": self.too_long == "truncate",
            "refuse_control_tokens": self.control_tokens == "refuse",
            "batch_tokens": self.batch_tokens,
        }

    def _environment(self) -> dict[str, str]:
        """Of the worker: offline, and with threads that wait passively. What the user has set comes first."""
        wanted = {
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            # Spinning threads bring a busy machine to a standstill.
            "OMP_WAIT_POLICY": "PASSIVE",
            "GOMP_SPINCOUNT": "0",
        }
        return {name: os.environ.get(name, value) for name, value in wanted.items()}


class Ranker(WorkerModel):
    """A model that compares answers."""

    what: ClassVar[str] = "a ranker"

    @property
    def compares(self) -> Literal["", "probability", "log_odds"]:
        """Log-odds."""
        return "log_odds"


def compared(a: Candidate, b: Candidate, log_odds: float | None, undecided: str | None) -> Comparison:
    """The comparison of a with b: its log-odds with their sigmoid, or why there are none."""
    return Comparison(
        prompt_id=a.prompt_id,
        source_a=a.source,
        index_a=a.index,
        source_b=b.source,
        index_b=b.index,
        probability=None if log_odds is None else _sigmoid(log_odds),
        log_odds=log_odds,
        undecided=undecided,
    )


def cut_detail(result: dict[str, JSON]) -> str:
    """What the detail of a score says of a text that was cut; empty for others."""
    if result.get("truncated_from") is None:
        return ""
    return f"scored the first {result['n_tokens']} of {result['truncated_from']} tokens"


def _sigmoid(log_odds: float) -> float:
    """1 / (1 + exp(-x)), without overflow for any finite x."""
    if log_odds >= 0:
        return 1 / (1 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1 + odds)
