"""Writes a table of prompts and one of answers, and a recipe over them with any scorer and rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_pair_rm import WORDS

from prefdata.recipe import Recipe

PROMPTS, ANSWERS = 6, 4


def recipe(scores: dict[str, Any], pairs: dict[str, Any]) -> Recipe:
    """Four answers a prompt, two of them equal, from a table."""
    return Recipe.model_validate(
        {
            "name": "ranked",
            "seed": 5,
            "prompts": {"kind": "file", "path": "prompts.jsonl", "prompt_id_column": "id"},
            "candidates": [{"kind": "existing", "name": "replayed", "path": "answers.jsonl", "prompt_id_column": "id"}],
            "scores": scores,
            "pairs": pairs,
            "dataset": {"kind": "trl", "test_size": 2},
        }
    )


def texts_of(number: int) -> list[str]:
    return [
        " ".join(WORDS[(number * 5 + answer * 3 + at * (answer + 1)) % len(WORDS)] for at in range(2 + answer))
        for answer in (0, 1, 2, 2)
    ]


def write_tables() -> None:
    prompts = [{"id": f"p{number}", "prompt": f"Question {number}"} for number in range(PROMPTS)]
    answers = [{"id": f"p{number}", "response": text} for number in range(PROMPTS) for text in texts_of(number)]
    for file, rows in {"prompts.jsonl": prompts, "answers.jsonl": answers}.items():
        Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
