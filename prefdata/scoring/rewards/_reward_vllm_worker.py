"""Runs the worker of `RewardModel` in vLLM, with its pooling runner, which reads the head at the last token."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from prefdata.scoring.rewards._reward_common import (
    BatchScorer,
    Reward,
    Row,
    device,
    load_tokenizer,
    loading,
    serve,
)
from prefdata.scoring.rewards._reward_worker import check_head
from prefdata.spec import JSON

__all__ = ["main"]


def main() -> None:
    """Scores until every answer is scored."""
    serve(lambda config: _VLLMRewardModel(config).score)


class _VLLMRewardModel(BatchScorer):
    def __init__(self, config: dict[str, JSON]) -> None:
        model_config = check_head(config["folder"]).get_text_config()
        super().__init__(config, load_tokenizer(config["folder"]), model_config)
        self._engine = _engine(config["folder"], config["dtype"], self._limit)

    def _score_rows(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Reward]]:
        """Scores a group's rows at once: vLLM makes its own batches, and takes common prefixes from its cache."""
        if rows:
            # Cached states of an earlier group would be read instead of computed, with other last digits.
            self._engine.reset_prefix_cache()
            yield from zip(rows, self._rewards([row.ids for row in rows]), strict=True)

    def _rewards(self, rows: list[list[int]]) -> list[Reward]:
        from vllm import PoolingParams

        # Without this option the engine returns the logit's sigmoid.
        raw = PoolingParams(use_activation=False)
        prompts = [{"prompt_token_ids": ids} for ids in rows]
        outputs = self._engine.classify(prompts, pooling_params=raw, use_tqdm=False)
        return [Reward(float(output.outputs.probs[0])) for output in outputs]


def _engine(folder: str, dtype: str, limit: int) -> Any:
    on_cpu = device() == "cpu"
    if on_cpu:
        # In this very process: another one takes as long to start as a small model takes to score.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_HOST_IP", "127.0.0.1")
    options: dict[str, JSON] = {"enforce_eager": True, "block_size": 32} if on_cpu else {}
    from vllm import LLM

    with loading(folder, "vLLM: the reward model"):
        return LLM(
            folder,
            runner="pooling",
            dtype=dtype,
            max_model_len=limit,
            enable_prefix_caching=True,
            disable_log_stats=True,
            **options,
        )


if __name__ == "__main__":
    main()
