"""Defines `GivenScores`, which takes the scores of the table that the candidates were read from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Literal

from prefdata.records import Answers, Candidate, Score, Scored
from prefdata.scoring.base import Scorer
from prefdata.spec import Context

__all__ = ["GivenScores"]


class GivenScores(Scorer):
    """Takes each candidate's `given_score`. A missing score, NaN and infinity leave it unscored."""

    kind: Literal["given"] = "given"

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Copies the scores; reasons for being unscored: `missing`, `nan` and `not_finite`. See `Scorer.score`."""
        for answers in tasks:
            yield Scored(answers.prompt.prompt_id, tuple(map(_given, answers.candidates)))


def _given(candidate: Candidate) -> Score:
    value, unscored = candidate.given_score, None
    if value is None:
        unscored = "missing"
    elif math.isnan(value):
        unscored = "nan"
    elif math.isinf(value):
        unscored = "not_finite"
    return Score(
        prompt_id=candidate.prompt_id,
        source=candidate.source,
        index=candidate.index,
        score=None if value is None or unscored else float(value),
        unscored=unscored,
    )
