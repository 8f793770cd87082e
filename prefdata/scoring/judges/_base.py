"""Defines `Judge`, the base of all judges, and `RubricJudge`, the base of those whose rubric is an option."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from prefdata.models import AnyGenerator, Decoding
from prefdata.scoring.base import Scorer
from prefdata.scoring.judges._reply import BARE_TOKENS

__all__ = ["Judge", "RubricJudge"]


class Judge(Scorer):
    """A language model that grades or compares answers."""

    generator: AnyGenerator
    """The model that judges."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Temperature of the judge's reply; 0 takes the most likely reply."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Token limit of a reply; a reply that reaches it is not read (`cut_off`)."""
    justify: bool = False
    """Asks for one short justification before each verdict; it is stored as the detail of the score or comparison."""
    enforce_schema: bool = True
    """Sends the reply's JSON schema with each request, so that an engine that supports schemas enforces it."""

    def _decoding(self) -> Decoding:
        return Decoding(temperature=self.temperature, max_tokens=self.max_tokens)


class RubricJudge(Judge):
    """A judge whose rubric is an option, and whose verdict can be an expectation over the reply's first token."""

    rubric: Annotated[str, Field(pattern=r"\S")]
    """Instructions for the judge. The form of the reply is added to it."""
    expected: bool = False
    """Reads the probability of each label as the reply's first token, instead of one label; needs an engine that gives
    log-probabilities."""
    min_mass: Annotated[float, Field(gt=0, le=1)] = 0.5
    """With `expected`: least probability that all labels together must have; a reply below it is not read
    (`low_mass`)."""

    def _decoding(self) -> Decoding:
        return Decoding(temperature=self.temperature, max_tokens=BARE_TOKENS if self.expected else self.max_tokens)
