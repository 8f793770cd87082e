"""`GivenScores`: a number is a score, anything else is unscored with its reason."""

from __future__ import annotations

import math

from prefdata.records import Answers, Candidate, Message, Prompt, Score
from prefdata.scoring import GivenScores
from prefdata.spec import Context

PROMPT = Prompt("p", (Message(role="user", content="q"),))


def scores_of(*given: float | None) -> tuple[Score, ...]:
    candidates = tuple(Candidate("p", "s", i, "a", given_score=value) for i, value in enumerate(given))
    (scored,) = GivenScores().score([Answers(PROMPT, candidates)], Context(seed=1))
    assert scored.prompt_id == "p"
    scores = scored.scores
    assert [(score.prompt_id, score.source, score.index) for score in scores] == [
        ("p", "s", i) for i in range(len(given))
    ]
    return scores


def test_given_numbers_are_the_scores_zero_and_negative_ones_too() -> None:
    scores = scores_of(4.5, 0.0, -3.0, 7)
    assert [score.score for score in scores] == [4.5, 0.0, -3.0, 7.0]
    assert all(isinstance(score.score, float) and score.unscored is None for score in scores)


def test_no_score_nan_and_infinity_are_three_reasons_and_never_a_number() -> None:
    scores = scores_of(None, math.nan, math.inf, -math.inf)
    assert [score.score for score in scores] == [None] * 4
    assert [score.unscored for score in scores] == ["missing", "nan", "not_finite", "not_finite"]


def test_every_prompt_gets_its_tuple_even_without_candidates() -> None:
    tasks = [Answers(PROMPT, ()), Answers(PROMPT, (Candidate("p", "s", 0, "a", given_score=1.0),))]
    assert [len(scored.scores) for scored in GivenScores().score(tasks, Context(seed=1))] == [0, 1]
