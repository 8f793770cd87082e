"""`AdditiveJudge` with a scripted model: what it asks, and what becomes of every kind of reply."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import TypeAdapter

from prefdata.errors import ConservationError
from prefdata.models import ChatEndpoint, Decoding, Generator
from prefdata.records import Answers, Candidate, Generation, Message, Prompt, Request, Score
from prefdata.scoring import AdditiveJudge, AnyScorer
from prefdata.scoring.judges._judge_prompt import rubric_sha256
from prefdata.spec import JSON, Context, sha256_of_file


class Scripted(Generator):
    """A model that answers from a function, and remembers what it was asked."""

    kind: Literal["scripted"] = "scripted"

    def pins(self) -> dict[str, JSON]:
        return {"model": "scripted"}

    def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
        seen = SEEN[self.kind] = Seen(decoding, context)
        for request in requests:
            seen.requests.append(request)
            yield from seen.answer(request)


class Seen:
    answer: Callable[[Request], Iterable[Generation]]

    def __init__(self, decoding: Decoding, context: Context) -> None:
        self.decoding = decoding
        self.context = context
        self.requests: list[Request] = []
        self.answer = ANSWER[0]


SEEN: dict[str, Seen] = {}
ANSWER: list[Callable[[Request], Iterable[Generation]]] = []


class Judge(AdditiveJudge):
    generator: Scripted = Scripted()


def says(text: str | None, **options: Any) -> Callable[[Request], list[Generation]]:
    return lambda request: [Generation(request.key, text, **({"finish_reason": "stop"} | options))]


def labels_of(request: Request) -> list[str]:
    assert request.json_schema is not None
    return list(request.json_schema["required"])


def by_text(request: Request) -> list[Generation]:
    """Gives every answer the points that it states itself: "worth N"."""
    text = request.messages[0]["content"]
    found = {label: int(text.split(f"answer {label}]\nworth ")[1][0]) for label in labels_of(request)}
    return [Generation(request.key, json.dumps(found), "stop")]


def task(number: int, *worths: int) -> Answers:
    prompt = Prompt(f"prompt-{number}", (Message(role="user", content=f"question {number}"),))
    made = (Candidate(prompt.prompt_id, "policy", i, f"worth {worth}") for i, worth in enumerate(worths))
    return Answers(prompt, tuple(made))


def judged(
    answer: Callable[[Request], Iterable[Generation]], tasks: Iterable[Answers], judge: AdditiveJudge | None = None
) -> list[tuple[Score, ...]]:
    ANSWER[:] = [answer]
    SEEN.clear()
    found = (judge or Judge()).score(tasks, Context(seed=5, pins={"generator": {"model": "scripted"}}))
    return [scored.scores for scored in found]


def test_each_candidate_gets_its_own_points_whatever_the_order_shown() -> None:
    tasks = [task(i, i % 7, 6, 0, 3) for i in range(30)]
    results = judged(by_text, tasks)
    assert [[score.score for score in scores] for scores in results] == [
        [float(i % 7), 6.0, 0.0, 3.0] for i in range(30)
    ]
    assert [[(s.prompt_id, s.source, s.index) for s in scores] for scores in results] == [
        [(c.prompt_id, c.source, c.index) for c in answers.candidates] for answers in tasks
    ]
    first_shown = {r.messages[0]["content"].split("answer A]\nworth ")[1][0] for r in SEEN["scripted"].requests}
    assert len(first_shown) > 2


def test_scores_do_not_depend_on_the_order_of_candidates_or_prompts() -> None:
    tasks = [task(i, 1, 5, 2, 4) for i in range(6)]
    mixed = [replace(answers, candidates=answers.candidates[::-1]) for answers in reversed(tasks)]
    straight = {scores[0].prompt_id: scores for scores in judged(by_text, tasks)}
    asked = {request.key: request for request in SEEN["scripted"].requests}
    assert {scores[0].prompt_id: scores for scores in judged(by_text, mixed)} == straight
    assert {request.key: request for request in SEEN["scripted"].requests} == asked


def test_one_request_a_prompt_with_its_seed_schema_and_decoding() -> None:
    judged(by_text, [task(1, 2, 3), task(2, 4)], Judge(temperature=0.5, max_tokens=77))
    seen = SEEN["scripted"]
    assert [request.key for request in seen.requests] == ["prompt-1", "prompt-2"]
    assert [labels_of(request) for request in seen.requests] == [["A", "B"], ["A"]]
    assert len({request.seed for request in seen.requests}) == 2
    assert [[message["role"] for message in request.messages] for request in seen.requests] == [["user"], ["user"]]
    assert seen.decoding == Decoding(temperature=0.5, max_tokens=77)
    assert seen.context.pins == {"model": "scripted"}


def test_the_schema_is_left_out_where_it_is_not_wanted() -> None:
    judged(says("{}"), [task(1, 2)], Judge(enforce_schema=False))
    assert SEEN["scripted"].requests[0].json_schema is None


def test_blank_and_identical_answers_are_shown_and_scored_each() -> None:
    prompt = Prompt("p", (Message(role="user", content="q"),))
    made = tuple(Candidate("p", "policy", i, text) for i, text in enumerate(["", "same", "same", "  "]))
    (scores,) = judged(says('{"A": 1, "B": 2, "C": 3, "D": 4}'), [Answers(prompt, made)])
    assert sorted(score.score or 0 for score in scores) == [1.0, 2.0, 3.0, 4.0]
    assert SEEN["scripted"].requests[0].messages[0]["content"].count("\nsame\n") == 2


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        (says("no idea"), ["unparsed"] * 3),
        (says('{"A": 1, "B": 2, "C": 3}', finish_reason="length"), ["cut_off"] * 3),
        (says('{"A": 1, "B"', finish_reason="length"), ["cut_off"] * 3),
        (says(None, failure="prompt_too_long", detail="900 tokens"), ["prompt_too_long"] * 3),
        (says(None, failure="control_tokens"), ["control_tokens"] * 3),
        (says('{"A": 1, "C": 9}'), [None, "missing", "out_of_range"]),
        (says('{"A": 0, "B": true, "C": 2, "C": 3}'), [None, "not_an_integer", "duplicate_key"]),
    ],
)
def test_what_can_not_be_read_is_unscored_under_its_own_reason_and_never_zero(
    answer: Callable[[Request], list[Generation]], reasons: list[str | None]
) -> None:
    (scores,) = judged(answer, [task(1, 1, 2, 3)], Judge(shuffle=False))
    assert [score.unscored for score in scores] == reasons
    assert all((score.score is None) == (reason is not None) for score, reason in zip(scores, reasons, strict=True))


def test_justifications_are_kept_with_their_scores() -> None:
    reply = '{"A": {"justification": "short and right", "score": 6}}'
    (scores,) = judged(says(reply), [task(1, 4)], Judge(justify=True))
    assert scores == (Score("prompt-1", "policy", 0, 6.0, None, "short and right"),)


def test_a_prompt_without_candidates_is_not_asked_about() -> None:
    results = judged(by_text, [task(1), task(2, 3), task(3), task(4)])
    assert sorted(map(len, results)) == [0, 0, 0, 1]
    assert [request.key for request in SEEN["scripted"].requests] == ["prompt-2"]


def test_with_nothing_to_grade_no_model_is_started() -> None:
    assert judged(by_text, [task(1), task(2)]) == [(), ()]
    assert judged(by_text, []) == []
    assert not SEEN


def test_prompts_are_pulled_as_the_model_asks_for_them() -> None:
    pulled: list[int] = []

    def tasks() -> Iterator[Answers]:
        for i in range(50):
            pulled.append(i)
            yield task(i, 1)

    ANSWER[:] = [by_text]
    for done, _ in enumerate(Judge().score(tasks(), Context(seed=5)), start=1):
        assert len(pulled) <= done + 1
    assert len(pulled) == 50


def test_a_model_that_answers_twice_or_not_at_all_is_found_out() -> None:
    twice = lambda request: [*by_text(request), *by_text(request)]  # noqa: E731 - reads better next to its use
    with pytest.raises(ConservationError, match="was not asked"):
        judged(twice, [task(1, 2)])
    with pytest.raises(ConservationError, match="left out 1"):
        judged(lambda _: [], [task(1, 2)])


def test_the_same_prompt_twice_under_way_is_a_bug_of_the_caller() -> None:
    def tasks() -> Iterator[Answers]:
        yield from (task(1, 2), task(1, 2))

    class Eager(Scripted):
        def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
            yield from super().generate(list(requests), decoding, context)

    class EagerJudge(Judge):
        generator: Eager = Eager()

    with pytest.raises(ConservationError, match="twice"):
        judged(by_text, tasks(), EagerJudge())


def test_pins_name_the_model_and_the_rubric() -> None:
    pins = Judge().pins()
    # The class is one of this file, so the file is pinned as well.
    assert pins.pop("sha256") == sha256_of_file(Path(__file__))
    assert pins == {"generator": {"model": "scripted"}, "rubric_sha256": rubric_sha256()}


def test_a_judge_is_data() -> None:
    judge = AdditiveJudge(generator=ChatEndpoint(model="m"), justify=True)
    dumped = judge.dump()
    assert TypeAdapter(AnyScorer).validate_python(dumped) == judge
    assert dumped["kind"] == "additive_judge"
    assert judge.fingerprint() != judge.replace(temperature=1.0).fingerprint()
    faster = judge.replace(generator=ChatEndpoint(model="m", concurrency=99))
    assert judge.fingerprint() == faster.fingerprint()
