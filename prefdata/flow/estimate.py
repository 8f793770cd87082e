"""What a build would ask of language models: requests, tokens, money and hours, before any is spent.

Every part that asks a language model is run on a sample of the prompts, with a generator in place of its own that
only notes what it is asked. So a new judge or sampler is in the plan without a line for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from pydantic import PrivateAttr

from prefdata.flow.lock import StageKey, score_parts
from prefdata.flow.run import Run
from prefdata.models import ChatEndpoint, Decoding, Generator
from prefdata.models.endpoint.spending import Spending
from prefdata.models.tokens import BYTES_PER_TOKEN, TokenCounter, token_counter
from prefdata.records import Answers, Candidate, Generation, Prompt, Request
from prefdata.sampling import Sampler, SampleTask
from prefdata.spec import JSON, Context, Part
from prefdata.tables.schemas import read_parquet

__all__ = ["ASSUMED_TOKENS", "COUNTED", "Estimate", "StageCost", "estimate_run"]

_P = TypeVar("_P", bound=Part)

COUNTED = 200
"""Most prompts that are counted; what they need is scaled to all."""
ASSUMED_TOKENS = 400
"""Tokens of an answer that nobody has given yet."""
_PER_MESSAGE = 5
_PER_REQUEST = 3
"""What chat templates add: ChatML and Llama 3 take about this much."""
_LABEL_TOKENS = 4
"""Of a reply of which only the first token's probabilities are wanted."""
_REMARK = "It answers the question and explains the main point, but it leaves out an example. " * 2
_WORDS = "the answer to this question depends on what is meant by it and on how much detail is wanted here "


@dataclass(frozen=True)
class StageCost:
    """What is left to be asked of one language model in one stage."""

    stage: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    """Expected."""
    most_completion_tokens: int
    """If every answer ran to its token limit."""
    cost: float | None
    """Expected; None without prices."""
    most_cost: float | None
    """If every answer ran to its token limit."""
    currency: str
    hours: float | None
    """Expected; None where nothing says how fast the generator is."""
    tokens_per_second: float | None
    """Of answers, over all requests under way."""
    speed: str
    """Where `tokens_per_second` comes from: `given`, `this build`, or `unknown`."""
    answer_tokens: float
    """Expected of one answer."""
    basis: str
    """Where `answer_tokens` come from: `given`, `assumed`, `this build`, or `the form of a reply`."""
    counted_by: str
    """What prompt tokens were counted with."""
    budget: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What is left to be asked in a whole build."""

    prompts: int
    counted: int
    """Prompts that were counted; the rest is scaled."""
    stages: tuple[StageCost, ...]
    spent: dict[str, JSON]
    """Account → what this build has paid it already."""

    @property
    def totals(self) -> dict[str, JSON]:
        """Sums over all stages; `cost` and `most_cost` by currency, `hours` None where a stage has none."""
        money: dict[str, list[float]] = {}
        for stage in self.stages:
            if stage.cost is not None and stage.most_cost is not None:
                so_far = money.get(stage.currency, [0.0, 0.0])
                money[stage.currency] = [so_far[0] + stage.cost, so_far[1] + stage.most_cost]
        hours = [stage.hours for stage in self.stages]
        return {
            "requests": sum(stage.requests for stage in self.stages),
            "prompt_tokens": sum(stage.prompt_tokens for stage in self.stages),
            "completion_tokens": sum(stage.completion_tokens for stage in self.stages),
            "most_completion_tokens": sum(stage.most_completion_tokens for stage in self.stages),
            "cost": {currency: expected for currency, (expected, _) in money.items()},
            "most_cost": {currency: most for currency, (_, most) in money.items()},
            "hours": None if None in hours else sum(filter(None, hours)),
        }

    def as_json(self) -> dict[str, JSON]:
        """Everything, totals included."""
        return {**asdict(self), "totals": self.totals}


def estimate_run(
    run: Run, prompts: Sequence[Prompt], *, answer_tokens: int | None = None, counted: int = COUNTED
) -> Estimate:
    """What a build would still ask, from its recipe and what its folder holds; asks nobody.

    Args:
        run: the build, whose lock is made.
        prompts: all of them.
        answer_tokens: tokens that an answer is expected to have; None takes what this build has so far, or assumes.
        counted: most prompts to count.
    """
    # Prompts are sorted by hash: evenly spaced ones are drawn as well as any.
    sample = (
        [prompts[place * len(prompts) // counted] for place in range(counted)] if counted < len(prompts) else prompts
    )
    counting = _Counting(run, len(prompts), sample, answer_tokens)
    stages = list(counting.samplers())
    stages += counting.scorers()
    spent = {account: asdict(paid) for account, paid in run.spending.accounts.items()}
    return Estimate(len(prompts), len(sample), tuple(stages), spent)


class _Probe(Generator):
    """Stands where a language model stands: notes what it is asked, and answers nothing."""

    _asked: list[tuple[Request, int]] = PrivateAttr(default_factory=list)

    @property
    def asked(self) -> list[tuple[Request, int]]:
        """Each request with its token limit."""
        return self._asked

    def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
        for request in requests:
            self._asked.append((request, decoding.max_tokens))
            yield Generation(request.key, None, failure="planned")


@dataclass(frozen=True)
class _Length:
    """How long answers are expected to be, and why."""

    tokens: float
    basis: str


@dataclass(frozen=True)
class _Speed:
    """How fast answers come, and who says so."""

    tokens_per_second: float | None
    basis: str


class _Counting:
    """Counts what the parts of one build ask about a sample of its prompts."""

    def __init__(self, run: Run, prompts: int, sample: Sequence[Prompt], answer_tokens: int | None) -> None:
        self._run, self._prompts, self._sample = run, prompts, sample
        self._given = answer_tokens
        self._lengths: dict[str, _Length] = {}

    def samplers(self) -> Iterator[StageCost]:
        for sampler, key in zip(self._run.recipe.samplers, self._run.lock.candidates, strict=True):
            length = self._length(key)
            self._lengths[sampler.name] = length
            left = self._left(key, sampler.tasks_per_prompt)
            part, probes = _probed(sampler)
            if left and probes:
                for _ in part.sample(self._tasks(sampler), self._context(key)):
                    continue
                limits = [most for probe in probes.values() for _, most in probe.asked]
                # Stand-ins for these answers are no longer than the answers can be.
                self._lengths[sampler.name] = replace(length, tokens=min([length.tokens, *limits]))
                yield from self._costs(key, sampler, probes, left, length)

    def scorers(self) -> Iterator[StageCost]:
        lock = self._run.lock
        answers: list[Answers] = []
        for name, scorer in score_parts(self._run.recipe.scores):
            key = lock.scores if name == "scores" else lock.members[name]
            left = self._left(key, 1)
            part, probes = _probed(scorer)
            if left and probes:
                answers = answers or self._answers()
                for _ in part.score(iter(answers), self._context(key)):
                    continue
                yield from self._costs(key, scorer, probes, left, self._length(None))

    def _costs(
        self, key: StageKey, part: Part, probes: Mapping[str, _Probe], left: float, length: _Length
    ) -> Iterator[StageCost]:
        scale = left * self._prompts / len(self._sample)
        for field, probe in probes.items():
            if probe.asked:
                name = key.name if len(probes) == 1 else f"{key.name} ({field})"
                generator = getattr(part, field)
                speed = _speed(generator, self._run.spending)
                yield _cost(name, generator, probe.asked, key.pins.get(field, {}), scale, length, speed)

    def _answers(self) -> list[Answers]:
        """The sampled prompts with the answers that are there already, and stand-ins for those to come."""
        found: dict[str, list[Candidate]] = {prompt.prompt_id: [] for prompt in self._sample}
        for sampler, key in zip(self._run.recipe.candidates, self._run.lock.candidates, strict=False):
            if _probed(sampler)[1]:
                tokens = self._lengths[sampler.name].tokens
                for prompt in self._sample:
                    found[prompt.prompt_id] += _stand_ins(prompt, sampler, tokens)
            else:
                for drawn in sampler.sample(self._tasks(sampler), self._context(key)):
                    for candidate in drawn.candidates:
                        found[candidate.prompt_id].append(candidate)
        order = [(prompt, sorted(found[prompt.prompt_id], key=_place)) for prompt in self._sample]
        return [Answers(prompt, tuple(candidates)) for prompt, candidates in order if candidates]

    def _tasks(self, sampler: Sampler) -> Iterator[SampleTask]:
        return (SampleTask(prompt, index) for prompt in self._sample for index in range(sampler.tasks_per_prompt))

    def _length(self, key: StageKey | None) -> _Length:
        if self._given is not None:
            return _Length(self._given, "given")
        known = [] if key is None else _known_lengths(self._run, key)
        return _Length(sum(known) / len(known), "this build") if known else _Length(ASSUMED_TOKENS, "assumed")

    def _left(self, key: StageKey, per_prompt: int) -> float:
        """The share of a stage that no earlier run has answered."""
        stage = self._run.stage(key)
        if stage.report is not None:
            return 0.0
        size, answered = self._run.shard_size, 0
        for path in stage.path.glob("shard-*.parquet"):
            start = int(path.stem.removeprefix("shard-")) * size
            answered += min(size, self._prompts - start) * per_prompt
        for path in stage.path.glob("journal-*.jsonl"):
            answered += path.read_bytes().count(b"\n")
        return max(0.0, 1 - answered / (self._prompts * per_prompt))

    def _context(self, key: StageKey) -> Context:
        return Context(seed=self._run.recipe.seed, pins=key.pins)


def _cost(
    name: str,
    generator: Generator,
    asked: Sequence[tuple[Request, int]],
    pins: Mapping[str, JSON],
    scale: float,
    length: _Length,
    speed: _Speed,
) -> StageCost:
    endpoint = generator if isinstance(generator, ChatEndpoint) else None
    here = generator if endpoint is None else None
    counter = token_counter(getattr(here, "model", None), getattr(here, "revision", None), pins)
    texts = [message["content"] for request, _ in asked for message in request.messages]
    prompt_tokens = counter.total(texts) + _PER_MESSAGE * len(texts) + _PER_REQUEST * len(asked)
    replies = [_reply_tokens(request, most, length, counter) for request, most in asked]
    formed = any(request.json_schema is not None or request.top_logprobs for request, _ in asked)
    prompt, expected = round(prompt_tokens * scale), round(sum(replies) * scale)
    limit = round(sum(most for _, most in asked) * scale)
    prices = endpoint.prices if endpoint else None
    return StageCost(
        stage=name,
        requests=round(len(asked) * scale),
        prompt_tokens=prompt,
        completion_tokens=expected,
        most_completion_tokens=limit,
        cost=prices.cost(prompt, expected) if prices else None,
        most_cost=prices.cost(prompt, limit) if prices else None,
        currency=prices.currency if prices else "",
        hours=expected / speed.tokens_per_second / 3600 if speed.tokens_per_second else None,
        tokens_per_second=speed.tokens_per_second,
        speed=speed.basis,
        answer_tokens=sum(replies) / len(replies),
        basis="the form of a reply" if formed else length.basis,
        counted_by=counter.how,
        budget=endpoint.budget if endpoint else None,
    )


def _speed(generator: Generator, spending: Spending) -> _Speed:
    if generator.tokens_per_second is not None:
        return _Speed(generator.tokens_per_second, "given")
    # The answers of a batch come all at once, whenever that is.
    if isinstance(generator, ChatEndpoint) and generator.batch is None:
        measured = spending.speed(generator.account)
        return _Speed(measured, "unknown" if measured is None else "this build")
    return _Speed(None, "unknown")


def _probed(part: _P) -> tuple[_P, dict[str, _Probe]]:
    """The part with a probe in place of each of its generators, and the probes by field."""
    probes = {name: _Probe() for name in type(part).model_fields if isinstance(getattr(part, name), Generator)}
    # A probe is none of the generators that a recipe may name, so this copy can't be validated.
    fields = {name: getattr(part, name) for name in type(part).model_fields}
    copy: Any = type(part).model_construct(**{**fields, **probes})
    return copy, probes


def _reply_tokens(request: Request, most: int, length: _Length, counter: TokenCounter) -> float:
    if request.top_logprobs:
        return min(most, _LABEL_TOKENS)
    if request.json_schema is not None:
        return min(most, counter.total([json.dumps(_example(request.json_schema))]))
    return min(most, length.tokens)


def _example(schema: JSON) -> JSON:
    """A value of a JSON schema, of the length that a reply has."""
    if not isinstance(schema, dict):
        return _REMARK
    if "enum" in schema or "const" in schema:
        return schema.get("const", next(iter(schema.get("enum", [])), ""))
    kind = str(schema.get("type"))
    if kind == "object":
        return {name: _example(inner) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [_example(schema.get("items", {}))] * max(1, schema.get("minItems", 1))
    return {"integer": 5, "number": 0.5, "boolean": True, "null": None}.get(kind, _REMARK)


def _stand_ins(prompt: Prompt, sampler: Sampler, tokens: float) -> Iterator[Candidate]:
    """Answers of the expected length, no two of them alike."""
    size = max(1, round(tokens * BYTES_PER_TOKEN))
    for index in range(sampler.tasks_per_prompt):
        text = f"{sampler.name} {index} {_WORDS * (1 + size // len(_WORDS))}"[:size]
        yield Candidate(prompt.prompt_id, sampler.name, index, text, finish_reason="stop")


def _known_lengths(run: Run, key: StageKey) -> list[int]:
    """Tokens of answers that this build has already; of a stage under way or done."""
    found: list[int] = []
    for path in sorted(run.stage(key).path.glob("shard-*.parquet"))[:4]:
        found += filter(None, read_parquet(path, ["n_tokens"])["n_tokens"].to_pylist())
    return found


def _place(candidate: Candidate) -> tuple[str, int]:
    return (candidate.source, candidate.index)
