"""Defines `AdditiveJudge`, a language model that grades all answers of a prompt in one request, 0 to 6 points each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from prefdata.records import Answers, Candidate, Generation, Request, Score, Scored
from prefdata.scoring.judges._base import Judge
from prefdata.scoring.judges._judge_prompt import (
    JudgePrompt,
    Verdict,
    read_reply,
    reply_schema,
    request_text,
    rubric_sha256,
)
from prefdata.scoring.judges._questions import Questions, ask, one_turn
from prefdata.scoring.judges._reply import UnreadableError, text_of
from prefdata.spec import JSON, Context, derive_seed
from prefdata.spec.marks import Harmless

__all__ = ["AdditiveJudge"]


class AdditiveJudge(Judge):
    """The additive 0 to 6 judge of DNO and WPO, which sees all answers of a prompt in one request.

    Points are small whole numbers, so ties are common; the pair rule decides how a tie is resolved. A reply that can't
    be read leaves its candidates unscored, each with its own reason, and never gives 0.
    """

    kind: Literal["additive_judge"] = "additive_judge"
    max_tokens: Annotated[int, Harmless, Field(ge=1)] = 1024
    """Token limit of a reply, for all answers of a prompt together. A reply that reaches it is not read (`cut_off`)."""
    shuffle: Annotated[bool, Harmless] = True
    """Shows the answers in an order drawn from the seed, the prompt and each candidate's name; False shows them in
    total order."""

    def pins(self) -> dict[str, JSON]:
        """Returns the generator's pins, and the hash of the judge's instructions."""
        return {**super().pins(), "rubric_sha256": rubric_sha256()}

    def request(self, answers: Answers, context: Context) -> Request:
        """Returns the request that asks for the points of one prompt's candidates."""
        return self._request(self._prompt(answers, context), context)

    def shown_order(self, answers: Answers, context: Context) -> tuple[Candidate, ...]:
        """Returns the candidates in the order in which the judge saw them; see `Scorer.shown_order`."""
        return self._prompt(answers, context).shown

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Grades each prompt's candidates; see `Scorer.score`. For a prompt without candidates nothing is sent.

        Reasons for being unscored: `unparsed`, `missing`, `duplicate_key`, `not_an_integer`, `not_an_object`,
        `out_of_range`, `cut_off`, `only_reasoning`, or the generator's reason for giving no reply.

        Raises:
            ConservationError: the generator answered a request that it was not sent, or left one out.
        """
        return ask((self._questions(answers, context) for answers in tasks), self.generator, self._decoding(), context)

    def _questions(self, answers: Answers, context: Context) -> Questions:
        prompt_id = answers.prompt.prompt_id
        if not answers.candidates:
            return Questions(prompt_id, (), lambda _: Scored(prompt_id, ()))
        judge_prompt = self._prompt(answers, context)
        request = self._request(judge_prompt, context)
        return Questions(prompt_id, (request,), lambda replies: self._grade(judge_prompt, replies[0]))

    def _prompt(self, answers: Answers, context: Context) -> JudgePrompt:
        return JudgePrompt.of(answers.prompt, answers.candidates, context.seed, shuffle=self.shuffle)

    def _request(self, judge_prompt: JudgePrompt, context: Context) -> Request:
        prompt_id = judge_prompt.prompt.prompt_id
        return Request(
            key=prompt_id,
            messages=one_turn(request_text(judge_prompt, justify=self.justify)),
            seed=derive_seed(context.seed, prompt_id, "judge"),
            json_schema=reply_schema(judge_prompt.labels, justify=self.justify) if self.enforce_schema else None,
        )

    def _grade(self, judge_prompt: JudgePrompt, reply: Generation) -> Scored:
        try:
            verdicts = read_reply(text_of(reply, self.max_tokens), judge_prompt.labels, justify=self.justify)
        except UnreadableError as error:
            verdicts = dict.fromkeys(judge_prompt.labels, Verdict(None, error.reason, error.detail))
        scores = [
            _score(candidate.prompt_id, candidate.source, candidate.index, verdicts[label])
            for label, candidate in zip(judge_prompt.labels, judge_prompt.shown, strict=True)
        ]
        in_order = sorted(scores, key=lambda score: (score.source, score.index))
        return Scored(judge_prompt.prompt.prompt_id, tuple(in_order))


def _score(prompt_id: str, source: str, index: int, verdict: Verdict) -> Score:
    points = None if verdict.points is None else float(verdict.points)
    return Score(prompt_id, source, index, points, verdict.unscored, verdict.detail)
