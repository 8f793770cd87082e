"""Published datasets in the shape of Snorkel's and SimPO's, made by an argmax and an argmin of their own."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def turns(prompt: str, text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]


def argmax(values: list[float]) -> int:
    """The first index of the greatest value, as NumPy and PyTorch have it on the CPU."""
    best = 0
    for place, value in enumerate(values):
        if value > values[best]:
            best = place
    return best


def row(number: int, answers: list[str], scores: list[float], picks: tuple[int, int] | None = None) -> dict:
    """One published row; `picks` are argmax and argmin unless given."""
    prompt = f"Question {number}?"
    best, worst = picks or (argmax(scores), argmax([-score for score in scores]))
    return {
        "prompt_id": f"id{number}",
        "prompt": prompt,
        "all_generated_responses": answers,
        "all_rm_scores": scores,
        "chosen": turns(prompt, answers[best]),
        "rejected": turns(prompt, answers[worst]),
    }


def rows(seed: int, count: int, texts: int = 60) -> list[dict]:
    """Rows with many tied scores, repeated texts, and now and then all scores or all texts equal."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        answers = [f"answer {draw.randrange(texts)} {'x' * draw.randrange(6)}" for _ in range(5)]
        scores = [draw.randrange(8) / 4 for _ in range(5)]
        if draw.random() < 0.05:
            answers = [answers[0]] * 5
        if draw.random() < 0.05:
            scores = [scores[0]] * 5
        made.append(row(number, answers, scores))
    return made


def written(path: Path, table: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(table), path)
    else:
        path.write_text("".join(json.dumps(one) + "\n" for one in table), encoding="utf-8")
    return path
