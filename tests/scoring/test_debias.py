"""`LengthDebiased`: the within-prompt slope against a regression by hand, and what is left of the correlation."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from prefdata.errors import InputError
from prefdata.records import Answers, Candidate, Comparison, Message, Prompt, Score, Scored
from prefdata.scoring import AnyScorer, GivenScores, LengthDebiased, Scorer
from prefdata.spec import JSON, Context


class Written(Scorer):
    """The score that the answer's candidate brought along; None is unscored. With a comparison, to be left out."""

    kind: Literal["written"] = "written"

    @property
    def compares(self) -> Literal["probability"]:
        return "probability"

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        for answers in tasks:
            scores = [
                Score(
                    c.prompt_id, c.source, c.index, c.given_score, None if c.given_score is not None else "refused", "d"
                )
                for c in answers.candidates
            ]
            yield Scored(answers.prompt.prompt_id, tuple(scores), (Comparison("p", "a", 0, "a", 1, 0.5),))


class Debiased(LengthDebiased):
    scorer: Written = Written()  # type: ignore[assignment]  # a member that tests can script


def answers_of(number: int, *answers: tuple[str, float | None]) -> Answers:
    prompt = Prompt(f"p{number}", (Message(role="user", content="q"),))
    made = (Candidate(prompt.prompt_id, "s", i, text, given_score=y) for i, (text, y) in enumerate(answers))
    return Answers(prompt, tuple(made))


def run(part: LengthDebiased, tasks: list[Answers]) -> tuple[list[list[Any]], JSON]:
    said: Any = {scored.prompt_id: {"scorer": scored} for scored in Written().score(tasks, Context(seed=1))}
    fit = part.fit(lambda: ((answers, said[answers.prompt.prompt_id]) for answers in tasks))
    fit = json.loads(json.dumps(fit, allow_nan=False))
    found = [part.combine((answers, said[answers.prompt.prompt_id]), fit) for answers in tasks]
    assert all(scored.comparisons == () for scored in found)
    assert found == list(part.score(tasks, Context(seed=1)))
    return [[score.unscored or score.score for score in scored.scores] for scored in found], fit


def sample(seed: int, slope: float = 2.0) -> list[Answers]:
    """Long answers score higher, by `slope` a unit of log length; hard prompts have long answers and low scores."""
    draw = random.Random(seed)
    made = []
    for number in range(40):
        level = draw.uniform(0, 5)
        texts = ["x y" * draw.randint(1, 60) * (1 + int(level)) for _ in range(5)]
        made.append(
            answers_of(number, *((t, slope * math.log(len(t)) - 4 * level + draw.gauss(0, 0.5)) for t in texts))
        )
    return made


def least_squares(tasks: list[Answers], length: Any) -> float:
    """The slope of score on length with one dummy variable a prompt."""
    rows, target = [], []
    for number, answers in enumerate(tasks):
        for candidate in answers.candidates:
            if candidate.given_score is not None and candidate.response.strip():
                rows.append([length(candidate.response), *(float(number == at) for at in range(len(tasks)))])
                target.append(candidate.given_score)
    return float(np.linalg.lstsq(np.array(rows), np.array(target), rcond=None)[0][0])


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({}, lambda text: math.log(len(text))),
        ({"of": "length"}, len),
        ({"unit": "words"}, lambda text: math.log(len(text.split()))),
        ({"unit": "words", "of": "length"}, lambda text: len(text.split())),
    ],
)
def test_the_slope_is_that_of_least_squares_with_a_level_for_each_prompt(options: dict[str, Any], length: Any) -> None:
    tasks = sample(3)
    found, fit = run(Debiased(**options), tasks)
    slope = least_squares(tasks, length)
    assert fit["slope"] == pytest.approx(slope, rel=1e-9)
    assert fit["answers"] == 200
    for answers, scores in zip(tasks, found, strict=True):
        mean = sum(length(c.response) for c in answers.candidates) / 5
        assert scores == pytest.approx(
            [c.given_score - slope * (length(c.response) - mean) for c in answers.candidates], abs=1e-9
        )


def test_the_levels_of_prompts_do_not_enter_the_slope_and_their_mean_scores_stay() -> None:
    tasks = sample(4)
    found, fit = run(Debiased(), tasks)
    assert fit["slope"] == pytest.approx(2.0, abs=0.15)
    for answers, scores in zip(tasks, found, strict=True):
        assert sum(scores) == pytest.approx(sum(c.given_score or 0 for c in answers.candidates))


def within(tasks: list[Answers], scores: list[list[float]]) -> float:
    x, y = [], []
    for answers, row in zip(tasks, scores, strict=True):
        lengths = [math.log(len(c.response)) for c in answers.candidates]
        x += [value - sum(lengths) / len(lengths) for value in lengths]
        y += [value - sum(row) / len(row) for value in row]
    return float(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_the_correlations_told_are_those_of_the_scores(strength: float) -> None:
    tasks = sample(5)
    found, fit = run(Debiased(strength=strength), tasks)
    before = [[c.given_score or 0.0 for c in answers.candidates] for answers in tasks]
    assert fit["correlation_before"] == pytest.approx(within(tasks, before), abs=1e-6)
    assert fit["correlation_after"] == pytest.approx(within(tasks, found), abs=1e-6)
    if strength == 1:
        assert abs(within(tasks, found)) < 1e-9 < 0.8 < fit["correlation_before"]
    if strength == 0:
        assert found == [pytest.approx(row) for row in before]


def test_a_scorer_that_prefers_short_answers_is_corrected_the_other_way() -> None:
    _, fit = run(Debiased(), sample(6, slope=-3))
    assert fit["slope"] == pytest.approx(-3, abs=0.2)


def test_what_is_unscored_stays_so_and_enters_nothing() -> None:
    tasks = [answers_of(0, ("xx", 1.0), ("x" * 2000, None), ("xxxx", 2.0))]
    found, fit = run(Debiased(), tasks)
    assert found == [[pytest.approx(1.5), "refused", pytest.approx(1.5)]]
    assert (fit["slope"], fit["answers"]) == (pytest.approx(1 / math.log(2)), 2)


def test_blank_answers_neither_enter_the_fit_nor_change() -> None:
    found, fit = run(Debiased(), [answers_of(0, ("", -9.0), (" \n", -8.0), ("xx", 1.0), ("xxxx", 2.0))])
    assert found == [[-9.0, -8.0, pytest.approx(1.5), pytest.approx(1.5)]]
    assert fit["answers"] == 2


@pytest.mark.parametrize(
    ("answers", "before"),
    [
        ([("same!", 0.1), ("other", 0.7), ("third", 0.3)], None),
        ([("one", 4.0)], None),
        ([("", 4.0)], None),
        ([("short", 3.1), ("a longer one", 3.1)], None),
        ([("x", None)], None),
    ],
)
def test_without_contrast_in_length_or_score_nothing_changes(answers: Any, before: None) -> None:
    found, fit = run(Debiased(), [answers_of(number, *answers) for number in range(3)])
    assert fit["slope"] == 0.0
    assert found == [[y if y is not None else "refused" for _, y in answers]] * 3
    assert fit["correlation_before"] == fit["correlation_after"] == before


def test_a_perfect_line_leaves_no_correlation_to_tell() -> None:
    tasks = [answers_of(n, *(("x" * k, 0.1 * k + n) for k in (3, 5, 11))) for n in range(4)]
    _, fit = run(Debiased(of="length"), tasks)
    assert (fit["correlation_before"], fit["correlation_after"]) == (1.0, None)


def test_scores_too_large_for_a_line_are_refused() -> None:
    with pytest.raises(InputError, match="too large"):
        run(Debiased(), [answers_of(0, ("x", 1e300), ("xx", 1.0))])


def test_nothing_to_fit_is_no_slope() -> None:
    assert run(Debiased(), []) == ([], {
        "slope": 0.0, "answers": 0, "correlation_before": None, "correlation_after": None,
    })  # fmt: skip


def test_the_details_of_scores_and_their_order_stay() -> None:
    tasks = [answers_of(0, ("字", 1.0), ("字字字", 2.0))]
    [found] = Debiased().score(tasks, Context(seed=1))
    assert [(s.index, s.detail) for s in found.scores] == [(0, "d"), (1, "d")]


def test_it_is_data_and_compares_nothing() -> None:
    part = LengthDebiased(scorer=GivenScores(), unit="words", of="length", strength=0.5)
    assert TypeAdapter(AnyScorer).validate_python(part.dump()) == part
    assert list(part.members()) == ["scorer"]
    assert (part.compares, Debiased().compares) == ("", "")
    with pytest.raises(ValidationError, match="less than or equal"):
        LengthDebiased(scorer=GivenScores(), strength=1.5)
