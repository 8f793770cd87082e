"""Defines `BaselineScorer`, a substitute for a reward model that reads the surface of an answer. Pure Python."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Annotated, Literal

from prefdata.records import Answers, Candidate, Comparison, Score, Scored
from prefdata.scoring._surface import Question, features
from prefdata.scoring.base import Scorer
from prefdata.spec import Context
from prefdata.spec.marks import Harmless

__all__ = ["BLANK", "WEIGHTS", "BaselineScorer"]

WEIGHTS = {
    "length": 3.0,
    "variety": 0.6,
    "on_topic": 0.4,
    "structure": 0.4,
    "rambling": -0.6,
    "repetition": -1.2,
    "looping": -1.5,
    "copied": -0.3,
    "cut_off": -0.5,
    "open_fence": -0.3,
    "refusal": -0.4,
    "plays_on": -0.8,
    "other_language": -1.5,
}
"""Weight of each feature: what an answer gains at the feature's full value of 1; `docs/scoring.md` describes them."""

BLANK = -8.0
"""The score of a blank answer, lower than any other score."""

_DECIMALS = 6


class BaselineScorer(Scorer):
    """Scores the look of an answer: long enough, on topic, varied, in the prompt's language, not looping, not cut off.

    For the `cpu` profile, for tests, and as the baseline that a real scorer has to beat: it understands nothing, so a
    fluent wrong answer beats a short right one. The score is a sum of features from 0 to 1 times fixed weights, in
    units whose differences can be read as log-odds; from -8 for a blank answer to less than 5. The same text gives the
    same score on every machine.
    """

    kind: Literal["baseline"] = "baseline"
    comparisons: Annotated[bool, Harmless] = False
    """Also compares every two answers of a prompt, with the difference of their scores as log-odds."""

    @property
    def compares(self) -> Literal["", "probability", "log_odds"]:
        """`log_odds` with `comparisons`, else empty."""
        return "log_odds" if self.comparisons else ""

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Scores each answer by its text, its prompt, and whether it was cut off; nothing is unscored."""
        for answers in tasks:
            question = Question.of([message["content"] for message in answers.prompt.messages])
            scores = [_score(candidate, question) for candidate in answers.candidates]
            comparisons = [_comparison(*two) for two in combinations(scores, 2)] if self.comparisons else []
            yield Scored(answers.prompt.prompt_id, tuple(_plain(scores)), tuple(comparisons))

    def recompute(self, answers: Answers, recorded: Scored, context: Context) -> Scored:
        """Recomputes everything from the texts; see `Scorer.recompute`."""
        return next(self.score([answers], context))


_Valued = tuple[Candidate, float]


def _score(candidate: Candidate, question: Question) -> _Valued:
    if not candidate.response.strip():
        return candidate, BLANK
    values = features(question, candidate.response, cut_off=candidate.finish_reason == "length")
    return candidate, round(math.fsum(WEIGHTS[name] * value for name, value in values.items()), _DECIMALS)


def _plain(scores: Sequence[_Valued]) -> Iterator[Score]:
    return (Score(one.prompt_id, one.source, one.index, value) for one, value in scores)


def _comparison(first: _Valued, second: _Valued) -> Comparison:
    (a, score_a), (b, score_b) = first, second
    log_odds = round(score_a - score_b, _DECIMALS)
    return Comparison(
        prompt_id=a.prompt_id,
        source_a=a.source,
        index_a=a.index,
        source_b=b.source,
        index_b=b.index,
        probability=1 / (1 + math.exp(-log_odds)),
        log_odds=log_odds,
    )
