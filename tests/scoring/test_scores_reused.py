"""Scores of a model on this machine are kept by prompt, and are the same among any other prompts."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tiny_gpm
import tiny_reward

from prefdata.flow.build import build
from prefdata.flow.journal import guarded_line, text_of_line
from prefdata.flow.plan import plan
from prefdata.recipe import Recipe

PROMPTS, WITHOUT = 24, 3
"""Prompts, and how many of them have no answer."""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(7)
    rows = [
        {"id": f"p{number:02}", "response": " ".join(draw.choices(tiny_gpm.WORDS, k=1 + draw.randrange(20)))}
        for number in range(PROMPTS)
        for _ in range(0 if number % 8 == 3 else 3)
    ]
    prompts = [{"id": f"p{number:02}", "prompt": f"question {number}"} for number in range(PROMPTS)]
    for file, lines in {"prompts.jsonl": prompts, "answers.jsonl": rows}.items():
        (tmp_path / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    tiny_reward.save_model(tmp_path / "model")
    return tmp_path


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "scored",
            "prompts": {"kind": "file", "path": "prompts.jsonl", "prompt_id_column": "id"},
            "candidates": [{"kind": "existing", "name": "there", "path": "answers.jsonl", "prompt_id_column": "id"}],
            "scores": {"kind": "reward_model", "model": "model", "batch_tokens": 300},
            "pairs": {"kind": "best_vs_worst"},
            "dataset": {"kind": "trl", "test_size": 0},
            **changes,
        }
    )


def built(out: str, made: Recipe, **options: Any) -> tuple[dict[str, bytes], int]:
    """The files of the dataset, and how many prompts' scores were reused."""
    done = build(made, out, **options)
    [record] = done.folder.glob("stages/scores-*/stage.json")
    files = {path.name: path.read_bytes() for path in sorted(done.dataset.rglob("*")) if path.is_file()}
    return files, json.loads(record.read_text()).get("reused", 0)


def test_a_larger_limit_scores_new_prompts_only_and_has_the_bytes_of_a_build_without_reuse(work):
    _, reused = built("builds/small", recipe(limit=10))
    assert reused == 0
    [kept] = plan(recipe(), "builds/large").estimate.there
    assert (kept.stage, kept.there, kept.requests) == ("scores", 10 - 1, PROMPTS - WITHOUT)
    larger, reused = built("builds/large", recipe())
    assert reused == 10 - 1
    anew, reused = built("builds/anew", recipe(), reuse=False)
    assert (larger, reused) == (anew, 0)


FORGED = [
    b"[]",
    b"{}",
    b'[{"prompt_id": "p99", "scores": []}]',
    b'[{"prompt_id": "%s", "scores": []}]',
    b'[{"prompt_id": "%s", "scores": [{"prompt_id": "%s", "source": "there", "index": 0, "score": NaN}]}]',
    b'[{"prompt_id": "%s", "scores": [{"prompt_id": "%s", "source": "there", "index": 0, "score": "7"}]}]',
]


def test_forged_scores_are_computed_again(work):
    first, _ = built("builds/first", recipe())
    [shelf] = Path("builds/.cache").rglob("*.jsonl")
    head, *lines = shelf.read_bytes().splitlines(keepends=True)
    forged = []
    for number, line in enumerate(lines):
        key, _, value = (text_of_line(line) or b"").partition(b" ")
        prompt_id = json.loads(value)[0]["prompt_id"].encode()
        forged.append(guarded_line(key + b" " + FORGED[number % len(FORGED)].replace(b"%s", prompt_id)))
    shelf.write_bytes(head + b"".join(forged))
    assert len(forged) == PROMPTS - WITHOUT > len(FORGED)
    assert built("builds/second", recipe()) == (first, 0)
