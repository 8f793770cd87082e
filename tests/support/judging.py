"""Serves a judge on loopback that talks nonsense about chosen prompts, and writes a recipe that asks it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from loopback import LoopbackHandler, LoopbackServer, running

from prefdata.recipe import Recipe

PROMPTS, ANSWERS, NONSENSE = 15, 3, 5


WORTHS = {(p, a): 1 + (7 * p + 3 * a) % 6 for p in range(PROMPTS) for a in range(ANSWERS)}


def choice(content: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}


def sane(text: str, wants_logprobs: bool) -> dict[str, Any]:
    """What an honest judge replies: an answer that says "worth N" is worth N."""
    worths = [int(worth) for worth in re.findall(r"worth (\d)", text)]
    if "winner" in text:
        a, b = worths
        return choice(json.dumps({"winner": "A" if a > b else "B" if b > a else "tie"}))
    if wants_logprobs:
        top = [{"token": str(worths[0] + step), "logprob": math.log(p)} for step, p in ((0, 0.7), (1, 0.3))]
        told = {"content": [{**top[0], "top_logprobs": top}]}
        return {**choice(str(worths[0])), "logprobs": told}
    if '"score"' in text:
        return choice(json.dumps({"score": worths[0]}))
    labels = re.findall(r"answer ([A-Z])\]$", text, re.MULTILINE)
    return choice(json.dumps(dict(zip(labels, worths, strict=True))))


BROKEN = [
    choice("As a judge I would say that all of them have their merits."),
    choice(None, refusal="I can't help with that."),
    choice('{"A": 3, "B": ', finish="length"),
]


REASONS = ["unparsed", "refused", "cut_off"]


class Judge(LoopbackServer):
    def __init__(self, broken: dict[int, dict[str, Any]]) -> None:
        super().__init__(Handler)
        self.broken = broken
        self.asked: Counter[int] = Counter()


class Handler(LoopbackHandler):
    server: Judge

    def do_POST(self) -> None:
        body = json.loads(self.body())
        text = body["messages"][-1]["content"]
        [number] = re.findall(r"^question (\d+)$", text, re.MULTILINE)
        with self.server.lock:
            self.server.asked[int(number)] += 1
        choices = [self.server.broken.get(int(number)) or sane(text, body.get("logprobs", False))]
        self.send({"id": "x", "object": "chat.completion", "created": 1, "model": "judge", "choices": choices})


def judging(broken: dict[int, dict[str, Any]]) -> AbstractContextManager[Judge]:
    return running(Judge(broken))


def recipe(folder: Path, scorer: dict[str, Any], server: Judge) -> Recipe:
    prompts, answers = folder / "prompts.jsonl", folder / "answers.jsonl"
    prompts.write_text(
        "".join(json.dumps({"id": f"p{n:02d}", "prompt": f"question {n}"}) + "\n" for n in range(PROMPTS))
    )
    rows = [{"id": f"p{p:02d}", "response": f"worth {worth}, no. {a}"} for (p, a), worth in WORTHS.items()]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    generator = {"kind": "chat_endpoint", "model": "judge", "base_url": server.url, "concurrency": 4}
    return Recipe.model_validate(
        {
            "name": "judged",
            "prompts": {"kind": "file", "path": str(prompts), "prompt_id_column": "id"},
            "candidates": [{"kind": "existing", "name": "there", "path": str(answers), "prompt_id_column": "id"}],
            "scores": with_generator(scorer, generator),
            "pairs": {"kind": "best_vs_worst"},
        }
    )


def with_generator(scorer: dict[str, Any], generator: dict[str, Any]) -> dict[str, Any]:
    if "scorers" in scorer:
        return {**scorer, "scorers": [with_generator(member, generator) for member in scorer["scorers"]]}
    return {**scorer, "generator": generator}
