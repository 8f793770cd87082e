"""Defines `Length`, which drops prompts that are too short or too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from prefdata.prompts.filters._each import EachPrompt, Refusal
from prefdata.prompts.filters._text import Scope, text_of
from prefdata.records import Prompt, text_length
from prefdata.spec import Context
from prefdata.spec.marks import Harmless

__all__ = ["Length"]


class Length(EachPrompt):
    """Drops `too_short` and `too_long` prompts."""

    kind: Literal["length"] = "length"
    at_least: Annotated[Annotated[int, Field(ge=0)] | None, Harmless] = None
    """Length of the shortest prompt that is kept, in `unit`; None sets no lower limit."""
    at_most: Annotated[Annotated[int, Field(ge=0)] | None, Harmless] = None
    """Length of the longest prompt that is kept, in `unit`; None sets no upper limit."""
    unit: Annotated[Literal["characters", "words"], Harmless] = "characters"
    """Unit of length: `characters` (Unicode code points) or `words` (runs of non-white-space)."""
    of: Annotated[Scope, Harmless] = "conversation"
    """Text that is measured: all messages of the prompt, or its last user message."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give `at_least` or `at_most`")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} is more than at_most {self.at_most}")
        return self

    def judge(self, context: Context) -> Callable[[Prompt], Refusal | None]:
        """Returns a function that judges a prompt by its number of characters or words; see `EachPrompt.judge`."""

        def refusal_of(prompt: Prompt) -> Refusal | None:
            length = text_length(text_of(prompt, self.of), self.unit)
            if self.at_least is not None and length < self.at_least:
                return "too_short", f"{length} {self.unit}, at least {self.at_least}"
            if self.at_most is not None and length > self.at_most:
                return "too_long", f"{length} {self.unit}, at most {self.at_most}"
            return None

        return refusal_of
