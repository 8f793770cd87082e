"""Defines `Judge`, the base of all judges, and `RubricJudge`, the base of those whose rubric is an option."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import Field

from prefdata.models import AnyGenerator, Decoding
from prefdata.records import Candidate, Message, Prompt, Request
from prefdata.scoring.base import Scorer
from prefdata.scoring.judges._judge_prompt import JudgePrompt
from prefdata.scoring.judges._questions import key_of, one_turn
from prefdata.scoring.judges._reply import BARE_TOKENS, TOP_LOGPROBS
from prefdata.spec import JSON, Context, derive_seed, fingerprint
from prefdata.spec.marks import Harmless

__all__ = ["Judge", "RubricJudge"]


class Judge(Scorer):
    """A language model that grades or compares answers."""

    generator: Annotated[AnyGenerator, Harmless]
    """The model that judges."""
    temperature: Annotated[float, Harmless, Field(ge=0, le=2)] = 0.0
    """Temperature of the judge's reply; 0 takes the most likely reply."""
    max_tokens: Annotated[int, Harmless, Field(ge=1)] = 512
    """Token limit of a reply; a reply that reaches it is not read (`cut_off`)."""
    justify: Annotated[bool, Harmless] = False
    """Asks for one short justification before each verdict; it is stored as the detail of the score or comparison."""
    enforce_schema: Annotated[bool, Harmless] = True
    """Sends the reply's JSON schema with each request, so that an engine that supports schemas enforces it."""

    def _decoding(self) -> Decoding:
        return Decoding(temperature=self.temperature, max_tokens=self.max_tokens)


class RubricJudge(Judge):
    """A judge whose rubric is an option, and whose verdict can be an expectation over the reply's first token."""

    n_shown: ClassVar[int]
    """Number of answers in each request."""
    rubric: Annotated[str, Harmless, Field(pattern=r"\S")]
    """Instructions for the judge. The form of the reply is added to it."""
    expected: Annotated[bool, Harmless] = False
    """Reads the probability of each label as the reply's first token, instead of one label; needs an engine that gives
    log-probabilities."""
    min_mass: Annotated[float, Harmless, Field(gt=0, le=1)] = 0.5
    """With `expected`: least probability that all labels together must have; a reply below it is not read
    (`low_mass`)."""

    def _decoding(self) -> Decoding:
        return Decoding(temperature=self.temperature, max_tokens=BARE_TOKENS if self.expected else self.max_tokens)

    def pins(self) -> dict[str, JSON]:
        """Returns the generator's pins, and the hash of the judge's instructions."""
        prompt = Prompt("example", (Message(role="user", content="question"),))
        shown = tuple(Candidate("example", "source", index, "answer") for index in range(self.n_shown))
        instructions = [self._text(JudgePrompt(prompt, shown, "fence")), self._schema()]
        return {**super().pins(), "rubric_sha256": fingerprint(instructions)}

    @abstractmethod
    def _text(self, judge_prompt: JudgePrompt) -> str:
        """Writes a request: rubric, conversation, answers, and the form of the reply."""

    @abstractmethod
    def _schema(self) -> dict[str, JSON] | None:
        """Returns the JSON schema of a reply; None with `expected`, whose reply is a bare label."""

    def _request(self, prompt: Prompt, shown: tuple[Candidate, ...], context: Context) -> Request:
        names = [part for candidate in shown for part in (candidate.source, candidate.index)]
        judge_prompt = JudgePrompt.of(prompt, shown, context.seed, shuffle=False)
        return Request(
            key=key_of(*shown),
            messages=one_turn(self._text(judge_prompt)),
            seed=derive_seed(context.seed, prompt.prompt_id, "judge", *names),
            json_schema=self._schema() if self.enforce_schema else None,
            top_logprobs=TOP_LOGPROBS if self.expected else 0,
        )
