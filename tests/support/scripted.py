"""A model that answers from a function, and remembers what it was asked; and prompts whose answers say their worth."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from prefdata.models import Decoding, Generator
from prefdata.records import Answers, Candidate, Generation, Message, Prompt, Request, Scored, TokenLogprobs
from prefdata.scoring import Scorer
from prefdata.spec import JSON, Context

Reply = Callable[[Request], Iterable[Generation]]


class Scripted(Generator):
    kind: Literal["scripted"] = "scripted"

    def pins(self) -> dict[str, JSON]:
        return {"model": "scripted"}

    def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
        SEEN.append(seen := Seen(decoding, context))
        for request in requests:
            seen.requests.append(request)
            yield from REPLY[0](request)


@dataclass
class Seen:
    decoding: Decoding
    context: Context
    requests: list[Request] = field(default_factory=list)


SEEN: list[Seen] = []
"""One for each time a model was started."""
REPLY: list[Reply] = []


def says(text: str | None, **options: Any) -> Reply:
    return lambda request: [Generation(request.key, text, **({"finish_reason": "stop"} | options))]


def places(*tokens: dict[str, float]) -> tuple[TokenLogprobs, ...]:
    """Probabilities by token text, one for each place, as an engine gives them."""
    return tuple(
        tuple(sorted(((text, math.log(p)) for text, p in place.items()), key=lambda one: -one[1])) for place in tokens
    )


def worths(request: Request) -> list[int]:
    """What the answers shown in a request say of themselves: "worth N"."""
    return [int(worth) for worth in re.findall(r"^worth (-?\d+)", request.messages[0]["content"], re.MULTILINE)]


def task(number: int, *worths: int, source: str = "policy") -> Answers:
    prompt = Prompt(f"prompt-{number}", (Message(role="user", content=f"question {number}"),))
    made = (Candidate(prompt.prompt_id, source, i, f"worth {worth}, no. {i}") for i, worth in enumerate(worths))
    return Answers(prompt, tuple(made))


def scored_by(
    scorer: Scorer, tasks: Iterable[Answers], reply: Reply, *, seed: int = 5, counters: Counter[str] | None = None
) -> dict[str, Scored]:
    """What a scorer says, by prompt."""
    REPLY[:] = [reply]
    SEEN.clear()
    counted = Counter[str]() if counters is None else counters

    def count(what: str, n: int) -> None:
        counted[what] += n

    context = Context(seed=seed, pins={"generator": {"model": "scripted"}}, counted=count)
    found = list(scorer.score(tasks, context))
    assert len({scored.prompt_id for scored in found}) == len(found)
    return {scored.prompt_id: scored for scored in found}
