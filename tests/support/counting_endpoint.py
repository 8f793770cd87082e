"""A chat endpoint whose replies follow from the request alone, and that counts what it is asked; a recipe for it."""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from chat_server import Endpoint, Reply, completion, serving

from prefdata.recipe import Recipe

PROMPTS = 12
JUDGES = ("pointwise_judge", "pairwise_judge", "additive_judge")


def reply(text: str, before: int, body: dict[str, Any]) -> Reply:
    drawn = hashlib.sha256(json.dumps([body["messages"], body.get("seed")]).encode()).digest()
    if "response_format" not in body:
        return Reply(body=completion(f"answer {drawn.hex()[: 8 + drawn[0] % 50]}"))
    properties = body["response_format"]["json_schema"]["schema"]["properties"]
    verdict = {
        name: "AB"[drawn[place] % 2] if name == "winner" else 1 + drawn[place] % 5
        for place, name in enumerate(properties)
    }
    return Reply(body=completion(json.dumps(verdict)))


def answering() -> AbstractContextManager[Endpoint]:
    return serving(reply)


def write_prompts(file: Path, prompts: int = PROMPTS, extra: int = 0) -> None:
    rows = [{"id": f"p{n:02d}", "prompt": f"question {n}"} for n in range(prompts)]
    rows += [{"id": f"extra{n:02d}", "prompt": f"another question {n}"} for n in range(extra)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def recipe(url: str, prompts: Path, n: int = 4, judge: str | None = "pointwise_judge", **changes: Any) -> Recipe:
    generator = {"kind": "chat_endpoint", "model": "m", "base_url": url, "max_retries": 0}
    scores = {"kind": "baseline"} if judge is None else {"kind": judge, "generator": generator}
    return Recipe.model_validate(
        {
            "name": "reused",
            "prompts": {"kind": "file", "path": str(prompts), "prompt_id_column": "id"},
            "candidates": [{"kind": "samples", "name": "teacher", "n": n, "generator": generator}],
            "scores": scores,
            "pairs": {"kind": "best_vs_worst"},
            "dataset": {"kind": "trl", "test_size": 0},
            **changes,
        }
    )
