"""A small recipe over replayed answers, whose counts are known by hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from prefdata.recipe import Recipe

PROMPTS, ROWS = 12, 14
"""Different prompts, and rows with a duplicate and a blank one."""
ANSWERS, CANDIDATES = 35, 34
"""Rows of answers to these prompts, and those that hold an answer."""
UNSCORED = 1
PAIRS = 10
DROPS = {"blank": 1, "duplicate": 1, "no_contrast": 1, "too_few_candidates": 1}


def write_tables(folder: Path) -> None:
    """Twelve prompts; the eleventh has no answer, the twelfth three of one score."""
    rows = [{"id": f"p{number:02d}", "prompt": f"Question {number}?"} for number in range(PROMPTS)]
    rows[4:4] = [rows[1], {"id": "blank", "prompt": " "}]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    answers = []
    for number in [*range(10), 11]:
        scores = (2, 2, 2) if number == 11 else (number % 3, 3, 4)
        answers += [{"id": f"p{number:02d}", "response": f"{number} {'x' * s}", "score": s} for s in scores]
    answers.append({"id": "p00", "response": "unscored", "score": None})
    answers.append({"id": "p00", "response": None, "score": 9})
    answers.append({"id": "elsewhere", "response": "to a prompt that is not asked", "score": 9})
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")


def recipe(**changes: object) -> Recipe:
    """The recipe; its paths are relative to the folder of the tables."""
    sampler = {"kind": "existing", "name": "replayed", "path": "answers.jsonl"}
    return Recipe.model_validate(
        {
            "name": "replayed",
            "seed": 5,
            "prompts": {"kind": "file", "path": "prompts.jsonl", "prompt_id_column": "id"},
            "candidates": [{**sampler, "prompt_id_column": "id", "score_column": "score"}],
            "scores": {"kind": "given"},
            "pairs": {"kind": "best_vs_worst"},
            "dataset": {"kind": "trl", "test_size": 3},
            **changes,
        }
    )


def tree(folder: Path) -> dict[str, str]:
    """Relative path → SHA-256 of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
