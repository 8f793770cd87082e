"""`Samples`: seeds, joining by key, failures."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Literal

import pytest
from pydantic import TypeAdapter

from prefdata.errors import ConservationError
from prefdata.models import Generator
from prefdata.records import Candidate, Drop, Generation, Prompt, as_messages, prompt_id_of
from prefdata.sampling import AnySampler, Samples, SampleTask
from prefdata.spec import Context

PROMPTS = [Prompt(prompt_id_of(as_messages(text)), as_messages(text)) for text in ("a", "b", "c", "too long")]


class Echo(Generator):
    """A generator that needs no model: answers from the request alone, in an order of its own."""

    kind: Literal["echo"] = "echo"
    order: int = 0

    def pins(self):
        return {"sha": "echo-1"}

    def generate(self, requests, decoding, context):
        asked = list(requests)
        random.Random(self.order).shuffle(asked)
        for request in asked:
            text = request.messages[-1]["content"]
            if text == "too long":
                yield Generation(request.key, None, failure="prompt_too_long", detail="9 tokens of 8")
            else:
                answer = f"{text} {request.seed} {decoding.temperature} {decoding.stop} {dict(context.pins)}"
                yield Generation(request.key, answer, "length", 3, decoding.max_tokens, "echo-1")


class Altered(Echo):
    """An `Echo` that breaks the contract of generators."""

    kind: Literal["altered"] = "altered"
    how: Callable

    def generate(self, requests, decoding, context):
        yield from self.how(list(super().generate(requests, decoding, context)))


class Lazy(Echo):
    """Asks for one request only."""

    def generate(self, requests, decoding, context):
        yield Generation(next(iter(requests)).key, "one")


class EchoSamples(Samples):
    generator: Echo


def tasks(part, prompts=PROMPTS):
    return [SampleTask(prompt, index) for prompt in prompts for index in range(part.tasks_per_prompt)]


def drawn(part, given=None, seed=0):
    context = Context(seed=seed, pins=part.pins())
    return {one.key: one for one in part.sample(iter(given if given is not None else tasks(part)), context)}


def test_each_task_gets_its_candidate_or_the_drop_of_its_failure():
    part = EchoSamples(name="policy", generator=Echo(), n=2, temperature=0.7, max_tokens=9, stop=["END"])
    found = drawn(part)
    assert sorted(found) == sorted(task.key for task in tasks(part))
    context = Context(seed=0)
    for task in tasks(part):
        one, text = found[task.key], task.prompt.messages[-1]["content"]
        if text == "too long":
            expected = Drop(
                task.prompt.prompt_id, "candidates", "prompt_too_long", "9 tokens of 8", "policy", task.index
            )
            assert (one.candidates, one.drops) == ((), (expected,))
        else:
            seed = part.seed(context, task)
            answer = f"{text} {seed} 0.7 ('END',) {{'sha': 'echo-1'}}"
            expected = Candidate(task.prompt.prompt_id, "policy", task.index, answer, "echo-1", "length", 9, seed)
            assert (one.candidates, one.drops) == ((expected,), ())


def test_seeds_differ_by_recipe_prompt_name_and_index_and_by_nothing_else():
    def seeds(name, seed, order=0, reverse=False, n=3):
        part = EchoSamples(name=name, generator=Echo(order=order), n=n)
        given = tasks(part, PROMPTS[:3])
        found = drawn(part, given[::-1] if reverse else given, seed)
        return {key: one.candidates[0].seed for key, one in found.items()}

    base = seeds("policy", 0)
    assert base == seeds("policy", 0, order=5, reverse=True)
    assert base.items() <= seeds("policy", 0, n=5).items()
    other = [seeds("teacher", 0), seeds("policy", 1)]
    drawn_seeds = [seed for found in (base, *other) for seed in found.values()]
    assert len(set(drawn_seeds)) == len(drawn_seeds) == 27


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda answers: answers[1:], "no answer to"),
        (lambda answers: [*answers, answers[0]], "which was not waiting for one"),
        (lambda answers: [*answers, Generation("stranger", "a")], "an answer to 'stranger'"),
        (lambda answers: [Generation(answers[0].key, None), *answers[1:]], "neither text nor failure"),
    ],
)
def test_an_answer_lost_repeated_or_invented_is_a_bug_not_a_row(how, said):
    class AlteredSamples(Samples):
        generator: Altered

    with pytest.raises(ConservationError, match=said):
        drawn(AlteredSamples(name="policy", generator=Altered(how=how), n=1), tasks_of_one())


def tasks_of_one():
    return [SampleTask(prompt, 0) for prompt in PROMPTS]


def test_requests_that_a_generator_never_took_are_missed():
    class LazySamples(Samples):
        generator: Lazy

    with pytest.raises(ConservationError, match="no answer to"):
        drawn(LazySamples(name="policy", generator=Lazy(), n=1), tasks_of_one())


def test_a_task_given_twice_is_refused():
    part = EchoSamples(name="policy", generator=Echo(), n=1)
    with pytest.raises(ConservationError, match="given twice"):
        drawn(part, [SampleTask(PROMPTS[0], 0), SampleTask(PROMPTS[0], 0)])


def test_tasks_are_pulled_as_the_generator_has_room():
    class OneByOne(Echo):
        def generate(self, requests, decoding, context):
            for request in requests:
                yield Generation(request.key, "a")

    class Streamed(Samples):
        generator: OneByOne

    pulled = []

    def stream():
        for task in tasks_of_one():
            pulled.append(task)
            yield task

    found = Streamed(name="policy", generator=OneByOne(), n=1).sample(stream(), Context(seed=0))
    next(found)
    assert len(pulled) == 1


def test_a_sampler_survives_the_json_round_trip():
    adapter = TypeAdapter(AnySampler)
    written = {
        "kind": "samples",
        "name": "policy",
        "generator": {"kind": "vllm", "model": "meta-llama/Meta-Llama-3-8B-Instruct"},
        "temperature": 0.7,
        "top_p": 0.95,
    }
    part = adapter.validate_python(written)
    assert part.n == part.tasks_per_prompt == 5
    assert adapter.validate_json(json.dumps(part.dump())) == part


def test_a_schema_reaches_every_request_and_the_identity_only_where_there_is_one():
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    seen = []

    class Seeing(Echo):
        def generate(self, requests, decoding, context):
            asked = list(requests)
            seen.extend(request.json_schema for request in asked)
            yield from super().generate(asked, decoding, context)

    class SeeingSamples(Samples):
        generator: Seeing

    plain = SeeingSamples(name="policy", generator=Seeing(), n=2)
    shaped = SeeingSamples(name="policy", generator=Seeing(), n=2, json_schema=schema)
    drawn(plain)
    drawn(shaped)
    assert seen == [None] * 8 + [schema] * 8
    assert "json_schema" not in plain.dump() and "json_schema" not in plain.identity()
    assert shaped.identity()["json_schema"] == schema
    assert SeeingSamples.model_validate(shaped.dump()) == shaped
