"""`AdditiveJudge`: a language model that grades all answers of a prompt in one request, 0 to 6 points each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from prefdata.models import AnyGenerator
from prefdata.models.base import Decoding
from prefdata.records import Answers, Candidate, Generation, Request, Score, Scored
from prefdata.scoring.base import Scorer
from prefdata.scoring.judges._asking import Questions, ask, one_turn
from prefdata.scoring.judges._judge_prompt import Sheet, Verdict, read_reply, reply_schema, request_text, rubric_sha256
from prefdata.scoring.judges._reply import UnreadableError, text_of
from prefdata.spec import JSON, Context, derive_seed

__all__ = ["AdditiveJudge"]


class AdditiveJudge(Scorer):
    """The additive 0 to 6 judge of DNO and WPO: it sees all answers of a prompt side by side.

    Points are small whole numbers, so ties are the norm; the pair rule says what a tie means. A reply that can't be
    read leaves its candidates unscored, each under its own reason, and never gives 0.
    """

    kind: Literal["additive_judge"] = "additive_judge"
    generator: AnyGenerator
    """The model that judges."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """0 takes the most likely reply."""
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    """Token limit of a reply, for all answers of a prompt together. A reply that reaches it scores nothing."""
    justify: bool = False
    """Asks for one short justification before each score; it is kept as the score's detail."""
    shuffle: bool = True
    """Shows the answers in an order drawn from the seed, the prompt and each candidate's name."""
    enforce_schema: bool = True
    """Sends the reply's JSON schema along, so that an engine that can will hold the model to it."""

    def pins(self) -> dict[str, JSON]:
        """The generator's pins, and the hash of what the judge is told."""
        return {**super().pins(), "rubric_sha256": rubric_sha256()}

    def request(self, answers: Answers, context: Context) -> Request:
        """The request that asks for the points of one prompt's candidates."""
        return self._request(self._sheet(answers, context), context)

    def shown_order(self, answers: Answers, context: Context) -> tuple[Candidate, ...]:
        """See `Scorer.shown`."""
        return self._sheet(answers, context).shown

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Grades each prompt's candidates; see `Scorer.score`. A prompt without candidates is not asked about.

        Reasons for being unscored: `unparsed`, `missing`, `duplicate_key`, `not_an_integer`, `not_an_object`,
        `out_of_range`, `cut_off`, or why the generator gave no reply.

        Raises:
            ConservationError: the generator answered something that was not asked, or left something out.
        """
        decoding = Decoding(temperature=self.temperature, max_tokens=self.max_tokens)
        return ask((self._questions(answers, context) for answers in tasks), self.generator, decoding, context)

    def _questions(self, answers: Answers, context: Context) -> Questions:
        prompt_id = answers.prompt.prompt_id
        if not answers.candidates:
            return Questions(prompt_id, (), lambda _: Scored(prompt_id, ()))
        sheet = self._sheet(answers, context)
        return Questions(prompt_id, (self._request(sheet, context),), lambda replies: self._grade(sheet, replies[0]))

    def _sheet(self, answers: Answers, context: Context) -> Sheet:
        return Sheet.of(answers.prompt, answers.candidates, context.seed, shuffle=self.shuffle)

    def _request(self, sheet: Sheet, context: Context) -> Request:
        prompt_id = sheet.prompt.prompt_id
        return Request(
            key=prompt_id,
            messages=one_turn(request_text(sheet, justify=self.justify)),
            seed=derive_seed(context.seed, prompt_id, "judge"),
            json_schema=reply_schema(sheet.labels, justify=self.justify) if self.enforce_schema else None,
        )

    def _grade(self, sheet: Sheet, reply: Generation) -> Scored:
        try:
            verdicts = read_reply(text_of(reply, self.max_tokens), sheet.labels, justify=self.justify)
        except UnreadableError as why:
            verdicts = dict.fromkeys(sheet.labels, Verdict(None, why.reason, why.detail))
        scores = [
            _score(candidate.prompt_id, candidate.source, candidate.index, verdicts[label])
            for label, candidate in zip(sheet.labels, sheet.shown, strict=True)
        ]
        in_order = sorted(scores, key=lambda score: (score.source, score.index))
        return Scored(sheet.prompt.prompt_id, tuple(in_order))


def _score(prompt_id: str, source: str, index: int, verdict: Verdict) -> Score:
    points = None if verdict.points is None else float(verdict.points)
    return Score(prompt_id, source, index, points, verdict.unscored, verdict.detail)
