"""`PythonScorer`: a function of the user's own that gives an answer its score."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from prefdata.records import Answers, Candidate, Score, Scored, is_score
from prefdata.scoring.base import Scorer
from prefdata.spec import Context
from prefdata.spec.marks import Harmless
from prefdata.spec.own import OwnPart, PromptText, Raised, attempt, storable

__all__ = ["PythonScorer"]


class PythonScorer(OwnPart, Scorer):
    """Scores each answer by `def score(prompt, response) -> float | None`, which is given two texts.

    With `batched`, the function is called once for each prompt, with two lists of one length: the prompt as often as it
    has answers, and the answers. It returns a list of that length. For larger batches, subclass `GroupScorer`.

    An answer has no score, with a reason, where the function raises (`python_error`), returns None (`no_score`), NaN,
    infinity or anything else (`not_a_number`), or a list of another length (`wrong_length`).
    """

    takes_functions: ClassVar[bool] = True

    batched: Annotated[bool, Harmless, Field(exclude_if=lambda batched: not batched)] = False
    """The function takes lists and returns a list."""

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """See `Scorer.score`."""
        function = self.function()
        for answers in tasks:
            text = PromptText.of(answers.prompt)
            if self.batched:
                scores = _together(function, text, answers.candidates)
            else:
                scores = [_score(each, attempt(function, text, each.response)) for each in answers.candidates]
            for score in scores:
                if score.unscored is not None:
                    context.counted(score.unscored, 1)
            yield Scored(answers.prompt.prompt_id, tuple(scores))


def _together(function: Callable[..., Any], text: PromptText, candidates: Sequence[Candidate]) -> list[Score]:
    if not candidates:
        return []
    responses = [candidate.response for candidate in candidates]
    values = attempt(lambda: list(function([text] * len(responses), responses)))
    if isinstance(values, Raised):
        return [_score(candidate, values) for candidate in candidates]
    if len(values) != len(candidates):
        detail = f"{len(values)} scores for {len(candidates)} answers"
        return [_unscored(candidate, "wrong_length", detail) for candidate in candidates]
    return list(map(_score, candidates, values))


def _score(candidate: Candidate, value: Any) -> Score:
    """The score that a function's value is: anything that Python can make a finite number of, but no text."""
    if isinstance(value, Raised):
        return _unscored(candidate, "python_error", value.detail)
    if value is None:
        return _unscored(candidate, "no_score", "")
    number = math.nan if isinstance(value, str | bytes | bytearray) else attempt(float, value)
    if isinstance(number, Raised) or not is_score(number):
        return _unscored(candidate, "not_a_number", storable(f"{type(value).__name__}: {value!r}"))
    return Score(candidate.prompt_id, candidate.source, candidate.index, number)


def _unscored(candidate: Candidate, reason: str, detail: str) -> Score:
    return Score(candidate.prompt_id, candidate.source, candidate.index, None, reason, detail)
