"""Scores groups with the worker of vLLM in this process, and prints how many tokens came from vLLM's cache."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from tiny_reward import config, tasks

from prefdata.scoring.rewards._reward_vllm_worker import _VLLMRewardModel

RULES = {"role": "system", "content": "answer in short words and say why " * 6}


def texts(seed: int) -> list[dict[str, Any]]:
    return [
        {
            "key": [number, place],
            "messages": [RULES, *answers.prompt.messages, {"role": "assistant", "content": candidate.response}],
        }
        for number, answers in enumerate(tasks(8, seed=seed))
        for place, candidate in enumerate(answers.candidates)
    ]


def main(folder: str, seeds: str) -> None:
    worker = _VLLMRewardModel(config(folder))
    classify = worker._engine.classify
    cached: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        outputs = classify(*arguments, **options)
        cached.append(sum(output.num_cached_tokens for output in outputs))
        return outputs

    worker._engine.classify = counted
    results = [sorted(worker.score(texts(int(seed))), key=lambda result: result["key"]) for seed in seeds.split(",")]
    sys.stdout.write("\n" + json.dumps({"cached": cached, "results": results}) + "\n")
    sys.stdout.flush()
    # The engine's own way out writes to the same pipe.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
