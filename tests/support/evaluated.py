"""A generator that answers from a function, and evaluation sets made up for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from prefdata.models import Decoding, Generator
from prefdata.records import Generation, Request
from prefdata.spec import JSON, Context

ASKED: list[Request] = []
SETTINGS: list[Decoding] = []
FAILS: set[str] = set()
"""Instructions that get no answer."""


class Echo(Generator):
    """Answers each instruction by its own words and the seed's last digit."""

    kind: Literal["echo"] = "echo"
    model: str = "tests/echo"

    def pins(self) -> dict[str, JSON]:
        return {"model": self.model}

    def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
        SETTINGS.append(decoding)
        for request in requests:
            ASKED.append(request)
            text = request.messages[-1]["content"]
            if text in FAILS:
                yield Generation(request.key, None, failure="prompt_too_long")
            else:
                yield Generation(request.key, f"{text} {request.seed % 10}", "stop", n_tokens=3)


def write_baseline(folder: Path, count: int = 6) -> Path:
    """An evaluation set with a baseline's outputs; two of its instructions are the same."""
    rows = [
        {
            "dataset": "made",
            "instruction": f"Say {n % (count - 1)}",
            "output": f"Here: {n}{'!' * n}",
            "generator": "base",
        }
        for n in range(count)
    ]
    path = folder / "baseline.json"
    path.write_text(json.dumps(rows))
    return path


def write_annotations(path: Path, outputs: list[dict], baseline: list[dict], preferences: list[float | None]) -> Path:
    """A file of annotations as AlpacaEval writes it."""
    rows = [
        {
            "instruction": ours["instruction"],
            "output_1": theirs["output"],
            "output_2": ours["output"],
            "annotator": "weighted_alpaca_eval_gpt4_turbo",
            "preference": preference,
        }
        for ours, theirs, preference in zip(outputs, baseline, preferences, strict=True)
    ]
    path.write_text(json.dumps(rows))
    return path
