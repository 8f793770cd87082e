"""Estimates what a build would ask of language models: requests, tokens, money and hours, before any is spent.

Every part that asks a language model is run on a sample of the prompts, with a generator in place of its own that
only records what it is asked. So a new judge or sampler is in the plan without a line for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from pydantic import PrivateAttr

from prefdata.flow._expected import Length, reply_tokens, stand_ins
from prefdata.flow.graph import Stage, StageKind
from prefdata.flow.reader import BuildReader
from prefdata.flow.score_groups import count_kept
from prefdata.flow.stage_files import read_table
from prefdata.models import ChatEndpoint, Decoding, Generator
from prefdata.models.endpoint.spending import Spending
from prefdata.models.tokens import token_counter
from prefdata.records import Answers, Candidate, Generation, Prompt, Request
from prefdata.sampling import Sampler, SampleTask
from prefdata.scoring import GroupScorer, Scorer
from prefdata.spec import JSON, Context, Part, Store

__all__ = ["ASSUMED_TOKENS", "COUNTED", "Estimate", "Kept", "StageCost", "estimate_build"]

_P = TypeVar("_P", bound=Part)

COUNTED = 200
"""Most prompts that are counted; what they need is scaled to all."""
ASSUMED_TOKENS = 400
"""Tokens that an answer still to come is assumed to have."""
_PER_MESSAGE = 5
_PER_REQUEST = 3
"""What chat templates add: ChatML and Llama 3 take about this much."""


@dataclass(frozen=True)
class StageCost:
    """What is left to ask of one language model in one stage."""

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
    """Expected; None where the speed of the generator is unknown."""
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
class Kept:
    """What need not be asked in one stage, since this build or another one has asked it."""

    stage: str
    there: int
    requests: int
    """Of the whole stage; of a model that scores on this machine, prompts."""


@dataclass(frozen=True)
class Estimate:
    """What is left to ask in a whole build."""

    prompts: int
    counted: int
    """Prompts that were counted; the rest is scaled."""
    stages: tuple[StageCost, ...]
    spent: dict[str, JSON]
    """Account → what this build has paid it already."""
    there: tuple[Kept, ...] = ()
    """What need not be asked, of the stages that are left."""

    @property
    def totals(self) -> dict[str, JSON]:
        """Sums over all stages: `cost` and `most_cost` by currency, `hours` None where a stage has none."""
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
        """Gives everything as JSON, totals included."""
        return {**asdict(self), "totals": self.totals}


def estimate_build(
    build: BuildReader,
    prompts: Sequence[Prompt],
    *,
    answer_tokens: int | None = None,
    counted: int = COUNTED,
    store: Store | None = None,
) -> Estimate:
    """Estimates what a build would still ask, from its recipe and what its folder holds; sends no request.

    Args:
        build: the build, whose lock is made.
        prompts: all of them.
        answer_tokens: tokens that an answer is expected to have; None takes what this build has so far, or assumes.
        counted: most prompts to count.
        store: holds what other builds have asked.
    """
    # Prompts are sorted by hash: evenly spaced ones are drawn as well as any.
    sample = (
        [prompts[number * len(prompts) // counted] for number in range(counted)] if counted < len(prompts) else prompts
    )
    counting = _Counting(build, len(prompts), sample, answer_tokens, store)
    stages = list(counting.samplers())
    stages += counting.scorers()
    spent = {account: asdict(paid) for account, paid in build.spending.accounts.items()}
    return Estimate(len(prompts), len(sample), tuple(stages), spent, tuple(counting.there))


class _Probe(Generator):
    """Takes the place of a language model: records what it is asked, and answers nothing."""

    _of: Generator | None = PrivateAttr(default=None)
    _asked: list[tuple[Request, int]] = PrivateAttr(default_factory=list)

    @property
    def asked(self) -> list[tuple[Request, int]]:
        """Each request with its token limit."""
        return self._asked

    @classmethod
    def of(cls, generator: Generator) -> _Probe:
        """Makes the probe that takes a generator's place, under its name in the store."""
        probe = cls()
        probe._of = generator
        return probe

    def identity(self) -> dict[str, JSON]:
        return super().identity() if self._of is None else self._of.identity()

    def split(self, generation: Generation) -> Generation:
        return super().split(generation) if self._of is None else self._of.split(generation)

    def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
        for request in requests:
            self._asked.append((request, decoding.max_tokens))
            yield Generation(request.key, None, failure="planned")


@dataclass(frozen=True)
class _Speed:
    """How fast answers come, and where that is known from."""

    tokens_per_second: float | None
    basis: str


class _Counting:
    """Counts what the parts of one build ask about a sample of its prompts."""

    def __init__(
        self,
        build: BuildReader,
        prompts: int,
        sample: Sequence[Prompt],
        answer_tokens: int | None,
        store: Store | None,
    ) -> None:
        self._build, self._prompts, self._sample = build, prompts, sample
        self._given, self._store = answer_tokens, store
        self.there: list[Kept] = []
        self._kept: dict[tuple[str, str], list[Candidate]] = {}
        """Sampler and prompt id → answers in the store."""
        self._reused: Counter[str] = Counter()
        """Stage → requests about the sampled prompts whose reply is in the store."""
        self._lengths: dict[str, Length] = {}

    def samplers(self) -> Iterator[StageCost]:
        for stage, sampler in self._samplers("candidates", "backfill"):
            length = self._length(stage)
            self._lengths[sampler.name] = length
            left = self._left(stage)
            part, probes = _probed(sampler)
            if left and probes:
                for result in part.sample(self._tasks(sampler), self._context(stage)):
                    for candidate in result.candidates:
                        self._kept.setdefault((sampler.name, candidate.prompt_id), []).append(candidate)
                limits = [most for probe in probes.values() for _, most in probe.asked]
                # Stand-ins for these answers are no longer than the answers can be.
                self._lengths[sampler.name] = replace(length, tokens=min([length.tokens, *limits]))
                yield from self._costs(stage, probes, left, length)

    def scorers(self) -> Iterator[StageCost]:
        answers: list[Answers] = []
        for stage in self._build.graph.of_kind("member", "scores"):
            left = self._left(stage)
            if left and isinstance(stage.part, GroupScorer):
                self._count_scores(stage, stage.part)
                continue
            part, probes = _probed(stage.part)
            if left and probes and isinstance(part, Scorer):
                answers = answers or self._answers()
                for _ in part.score(iter(answers), self._context(stage)):
                    continue
                yield from self._costs(stage, probes, left, self._length(None))

    def _count_scores(self, stage: Stage, scorer: GroupScorer) -> None:
        counts = count_kept(scorer, self._answers, self._context(stage))
        if counts is not None and counts[0]:
            scale = self._prompts / len(self._sample)
            self.there.append(Kept(stage.name, round(counts[0] * scale), round(counts[1] * scale)))

    def _costs(self, stage: Stage, probes: Mapping[str, _Probe], left: float, length: Length) -> Iterator[StageCost]:
        asked, reused = sum(len(probe.asked) for probe in probes.values()), self._reused[stage.name]
        every, scale = asked + reused, self._prompts / len(self._sample)
        # What this build has is in the store too, unless that was removed.
        missing = min(left * every, asked)
        if missing < every:
            self.there.append(Kept(stage.name, round((every - missing) * scale), round(every * scale)))
        scale *= missing / asked if asked else 0.0
        for field, probe in probes.items():
            if probe.asked and scale:
                name = stage.name if len(probes) == 1 else f"{stage.name} ({field})"
                generator = getattr(stage.part, field)
                speed = _speed(generator, self._build.spending)
                yield _cost(name, generator, probe.asked, stage.pins.get(field, {}), scale, length, speed)

    def _answers(self) -> list[Answers]:
        """Gives the sampled prompts with the answers that are there already, and stand-ins for those to come."""
        by_prompt: dict[str, list[Candidate]] = {prompt.prompt_id: [] for prompt in self._sample}
        for stage, sampler in self._samplers("candidates"):
            if _probed(sampler)[1]:
                tokens = self._lengths[sampler.name].tokens
                for prompt in self._sample:
                    kept = {one.index: one for one in self._kept.get((sampler.name, prompt.prompt_id), ())}
                    made = stand_ins(prompt, sampler, tokens)
                    by_prompt[prompt.prompt_id] += [kept.get(each.index, each) for each in made]
            else:
                for result in sampler.sample(self._tasks(sampler), self._context(stage)):
                    for candidate in result.candidates:
                        by_prompt[candidate.prompt_id].append(candidate)
        order = [(prompt, sorted(by_prompt[prompt.prompt_id], key=_name)) for prompt in self._sample]
        return [Answers(prompt, tuple(candidates)) for prompt, candidates in order if candidates]

    def _tasks(self, sampler: Sampler) -> Iterator[SampleTask]:
        return (SampleTask(prompt, index) for prompt in self._sample for index in range(sampler.tasks_per_prompt))

    def _samplers(self, *kinds: StageKind) -> Iterator[tuple[Stage, Sampler]]:
        for stage in self._build.graph.of_kind(*kinds):
            assert isinstance(stage.part, Sampler)
            yield stage, stage.part

    def _length(self, stage: Stage | None) -> Length:
        if self._given is not None:
            return Length(self._given, "given")
        so_far = [] if stage is None else _lengths_so_far(self._build, stage)
        return Length(sum(so_far) / len(so_far), "this build") if so_far else Length(ASSUMED_TOKENS, "assumed")

    def _left(self, stage: Stage) -> float:
        """Computes the share of a stage that no earlier run has answered."""
        folder = self._build.stage(stage.name)
        if folder.report is not None:
            return 0.0
        size, answered = self._build.shard_size, 0
        for path in folder.path.glob("shard-*.parquet"):
            start = int(path.stem.removeprefix("shard-")) * size
            answered += min(size, self._prompts - start) * stage.per_prompt
        for path in folder.path.glob("journal-*.jsonl"):
            answered += path.read_bytes().count(b"\n")
        return max(0.0, 1 - answered / (self._prompts * stage.per_prompt))

    def _context(self, stage: Stage) -> Context:
        def counted(what: str, count: int) -> None:
            if what == "reused":
                self._reused[stage.name] += count

        return Context(seed=self._build.recipe.seed, pins=stage.pins, counted=counted, store=self._store)


def _cost(
    name: str,
    generator: Generator,
    asked: Sequence[tuple[Request, int]],
    pins: Mapping[str, JSON],
    scale: float,
    length: Length,
    speed: _Speed,
) -> StageCost:
    endpoint = generator if isinstance(generator, ChatEndpoint) else None
    here = generator if endpoint is None else None
    counter = token_counter(getattr(here, "model", None), getattr(here, "revision", None), pins)
    texts = [message["content"] for request, _ in asked for message in request.messages]
    prompt_tokens = counter.total(texts) + _PER_MESSAGE * len(texts) + _PER_REQUEST * len(asked)
    replies = [reply_tokens(request, most, length, counter) for request, most in asked]
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
    """Gives the part with a probe in place of each of its generators, and the probes by field."""
    generators = {name: getattr(part, name) for name in type(part).model_fields}
    probes = {name: _Probe.of(each) for name, each in generators.items() if isinstance(each, Generator)}
    # A probe is none of the generators that a recipe may name, so this copy can't be validated.
    fields = {name: getattr(part, name) for name in type(part).model_fields}
    copy: Any = type(part).model_construct(**{**fields, **probes})
    return copy, probes


def _lengths_so_far(build: BuildReader, stage: Stage) -> list[int]:
    """Reads the tokens of some answers that this build has already, of a stage under way or done."""
    lengths: list[int] = []
    for path in sorted(build.stage(stage.name).path.glob("shard-*.parquet"))[:4]:
        lengths += filter(None, read_table(path, ["n_tokens"])["n_tokens"].to_pylist())
    return lengths


def _name(candidate: Candidate) -> tuple[str, int]:
    return (candidate.source, candidate.index)
