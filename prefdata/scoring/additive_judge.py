"""`AdditiveJudge`: a language model that grades all answers of a prompt in one request, 0 to 6 points each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Annotated, Literal

from pydantic import Field

from prefdata.errors import ConservationError
from prefdata.generators import AnyGenerator
from prefdata.generators.base import Decoding
from prefdata.records import Answers, Candidate, Generation, Message, Request, Score
from prefdata.scoring._judge_sheet import Sheet, Verdict, read_reply, reply_schema, request_text, rubric_sha256
from prefdata.scoring.base import Scorer
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

    def shown(self, answers: Answers, context: Context) -> tuple[Candidate, ...]:
        """See `Scorer.shown`."""
        return self._sheet(answers, context).shown

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[tuple[Score, ...]]:
        """Grades each prompt's candidates; see `Scorer.score`. A prompt without candidates is not asked about.

        Reasons for being unscored: `unparsed`, `missing`, `duplicate_key`, `not_an_integer`, `not_an_object`,
        `out_of_range`, `cut_off`, or why the generator gave no reply.

        Raises:
            ConservationError: the generator answered something that was not asked, or left something out.
        """
        sheets: dict[str, Sheet] = {}
        nothing_to_grade: deque[tuple[Score, ...]] = deque()

        def requests() -> Iterator[Request]:
            for answers in tasks:
                if not answers.candidates:
                    nothing_to_grade.append(())
                    continue
                sheet = self._sheet(answers, context)
                if sheets.setdefault(answers.prompt.prompt_id, sheet) is not sheet:
                    raise ConservationError(f"prompt {answers.prompt.prompt_id!r} came to the judge twice")
                yield self._request(sheet, context)

        waiting = requests()
        # The first request is made before the engine is: with nothing to grade, none is started.
        if (first := next(waiting, None)) is not None:
            decoding = Decoding(temperature=self.temperature, max_tokens=self.max_tokens)
            asked = chain([first], waiting)
            for reply in self.generator.generate(asked, decoding, context.child("generator")):
                while nothing_to_grade:
                    yield nothing_to_grade.popleft()
                sheet = sheets.pop(reply.key, None)
                if sheet is None:
                    raise ConservationError(f"the judge's model answered {reply.key!r}, which was not asked")
                yield self._grade(sheet, reply)
        yield from nothing_to_grade
        if sheets:
            raise ConservationError(f"the judge's model left out {len(sheets)} requests, {min(sheets)!r} among them")

    def _sheet(self, answers: Answers, context: Context) -> Sheet:
        return Sheet.of(answers.prompt, answers.candidates, context.seed, shuffle=self.shuffle)

    def _request(self, sheet: Sheet, context: Context) -> Request:
        prompt_id = sheet.prompt.prompt_id
        return Request(
            key=prompt_id,
            # One user turn: some chat templates have no system role, others put their own text there.
            messages=(Message(role="user", content=request_text(sheet, justify=self.justify)),),
            seed=derive_seed(context.seed, prompt_id, "judge"),
            json_schema=reply_schema(sheet.labels, justify=self.justify) if self.enforce_schema else None,
        )

    def _grade(self, sheet: Sheet, reply: Generation) -> tuple[Score, ...]:
        if reply.text is None:
            failed = Verdict(None, reply.failure or "request_failed", reply.detail)
            verdicts = dict.fromkeys(sheet.labels, failed)
        elif reply.finish_reason == "length":
            cut = Verdict(None, "cut_off", f"the reply reached the limit of {self.max_tokens} tokens")
            verdicts = dict.fromkeys(sheet.labels, cut)
        else:
            verdicts = read_reply(reply.text, sheet.labels, justify=self.justify)
        scores = [
            _score(candidate.prompt_id, candidate.source, candidate.index, verdicts[label])
            for label, candidate in zip(sheet.labels, sheet.shown, strict=True)
        ]
        return tuple(sorted(scores, key=lambda score: (score.source, score.index)))


def _score(prompt_id: str, source: str, index: int, verdict: Verdict) -> Score:
    points = None if verdict.points is None else float(verdict.points)
    return Score(prompt_id, source, index, points, verdict.unscored, verdict.detail)
