"""Defines `PointwiseJudge`, a language model that grades one answer in each request, by a rubric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from prefdata.records import Answers, Candidate, Generation, Request, Score, Scored
from prefdata.scoring.judges._base import RubricJudge
from prefdata.scoring.judges._judge_prompt import JudgePrompt, render
from prefdata.scoring.judges._questions import Questions, ask
from prefdata.scoring.judges._reply import (
    UnreadableError,
    closed,
    first_word,
    justification_in,
    label_shares,
    object_in,
    text_of,
    value_of,
    verdict_of,
    whole_number,
)
from prefdata.spec import JSON, Context
from prefdata.spec.marks import Harmless

__all__ = ["PointwiseJudge"]

_RUBRIC = """\
Grade the answer to the last message of the conversation below by how well it serves the person who wrote that \
message.
Look at these in turn: does it do what was asked, all of it and nothing else; is everything in it correct; is it \
clear, well ordered and no longer than it has to be. A mistake that would mislead the reader weighs more than a gap, \
and a gap more than a matter of style. Length is no merit, and neither is a confident tone."""

_SCALE = "The grade is a whole number from {lowest} (useless or harmful) to {highest} (an expert could not improve it)."
_OBJECT = 'Reply with one JSON object and nothing else: "score", the grade.'
_JUSTIFIED = (
    'Reply with one JSON object and nothing else: "justification", one short sentence on the answer, and then "score", '
    "the grade."
)
_BARE = "Reply with the grade alone, one digit and nothing else."

_MOST_GRADES = 101
_DECIMALS = 12
"""Decimals of values computed with an exponential, whose last bits differ between machines."""


class PointwiseJudge(RubricJudge):
    """A judge that sees one answer at a time and grades it by a rubric.

    With `expected` the score is the mean of the grades, weighted by the probability of each as the model's reply: ties
    are very rare, and each answer takes one token. Source: G-Eval (Liu et al., 2023, arXiv:2303.16634), which weights
    grades by token probabilities.

    A reply that can't be read leaves its answer unscored, with its own reason, and never gives the lowest grade.
    """

    n_shown: ClassVar[int] = 1
    kind: Literal["pointwise_judge"] = "pointwise_judge"
    rubric: Annotated[str, Harmless, Field(pattern=r"\S")] = _RUBRIC
    """Criteria for a good answer, as instructions for the judge. The scale and the form of the reply are added."""
    lowest: Annotated[int, Harmless] = 1
    """The worst grade."""
    highest: Annotated[int, Harmless] = 9
    """The best grade. One digit by default, so that `expected` can read it from one token."""
    expected: Annotated[bool, Harmless] = False
    """Scores by the expected grade instead of the grade; needs an engine that gives log-probabilities. A reply is then
    one digit."""

    @model_validator(mode="after")
    def _is_a_scale(self) -> PointwiseJudge:
        if not 0 < self.highest - self.lowest < _MOST_GRADES:
            raise ValueError(
                f"lowest {self.lowest} and highest {self.highest} do not make a scale of 2 to {_MOST_GRADES} grades"
            )
        if self.expected and not 0 <= self.lowest < self.highest <= 9:
            raise ValueError(
                f"expected scores need grades of one digit, not {self.lowest} to {self.highest}: a longer number is "
                "several tokens, and its first one is another grade"
            )
        if self.expected and (self.justify or self.temperature):
            raise ValueError("expected scores are read from a bare digit, drawn greedily: no justify, temperature 0")
        return self

    def requests(self, answers: Answers, context: Context) -> tuple[Request, ...]:
        """Returns the requests that ask for the grades of one prompt's candidates, in their order."""
        return tuple(self._request(answers.prompt, (candidate,), context) for candidate in answers.candidates)

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Grades each candidate; see `Scorer.score`.

        Reasons for being unscored: `unparsed`, `missing`, `duplicate_key`, `not_an_integer`, `out_of_range`, `cut_off`,
        `only_reasoning`, with `expected` also `no_logprobs` and `low_mass`, or the generator's reason for giving no
        reply.

        Raises:
            ConservationError: the generator answered a request that it was not sent, or left one out.
        """

        def questions(answers: Answers) -> Questions:
            def read(replies: Sequence[Generation]) -> Scored:
                scores = map(self._graded, answers.candidates, replies)
                return Scored(answers.prompt.prompt_id, tuple(scores))

            return Questions(answers.prompt.prompt_id, self.requests(answers, context), read)

        return ask(map(questions, tasks), self.generator, self._decoding(), context)

    def _text(self, judge_prompt: JudgePrompt) -> str:
        scale = _SCALE.format(lowest=self.lowest, highest=self.highest)
        reply = _BARE if self.expected else _JUSTIFIED if self.justify else _OBJECT
        return render(judge_prompt, f"{self.rubric}\n{scale}", reply)

    def _schema(self) -> dict[str, JSON] | None:
        if self.expected:
            return None
        # An enumeration, not a range: all engines that enforce schemas support it, and some ignore `minimum`.
        score = {"type": "integer", "enum": list(range(self.lowest, self.highest + 1))}
        return closed({"justification": {"type": "string"}, "score": score} if self.justify else {"score": score})

    def _graded(self, candidate: Candidate, reply: Generation) -> Score:
        name = (candidate.prompt_id, candidate.source, candidate.index)
        try:
            score, detail = self._expectation(reply) if self.expected else self._grade(reply)
        except UnreadableError as error:
            return Score(*name, None, error.reason, error.detail)
        return Score(*name, score, None, detail)

    def _grade(self, reply: Generation) -> tuple[float, str]:
        verdict = object_in(text_of(reply, self.max_tokens))
        grade = whole_number(value_of(verdict, "score"), self.lowest, self.highest)
        return float(grade), justification_in(verdict) if self.justify else ""

    def _expectation(self, reply: Generation) -> tuple[float, str]:
        grades = {str(grade): grade for grade in range(self.lowest, self.highest + 1)}
        shares = label_shares(reply, list(grades), self.min_mass, self.generator.thinking_marks)
        word = first_word(verdict_of(reply))
        if word[:1].isdigit() and word not in grades:
            # "10" begins with the token of the grade 1, and "7.5" with that of 7.
            whole = word.isdecimal()
            raise UnreadableError("out_of_range" if whole else "not_an_integer", f"the reply begins with {word[:40]!r}")
        return round(math.fsum(grades[label] * share for label, share in shares.items()), _DECIMALS), ""
