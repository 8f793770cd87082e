"""`Length`: prompts neither too short nor too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from prefdata.prompts.filters._each import EachPrompt, Refused
from prefdata.prompts.filters._text import Scope, text_of
from prefdata.records import Prompt
from prefdata.spec import Context

__all__ = ["Length"]


class Length(EachPrompt):
    """Drops `too_short` and `too_long` prompts."""

    kind: Literal["length"] = "length"
    at_least: Annotated[int, Field(ge=0)] | None = None
    """The shortest prompt that is kept."""
    at_most: Annotated[int, Field(ge=0)] | None = None
    """The longest prompt that is kept."""
    unit: Literal["characters", "words"] = "characters"
    """Unicode code points, or runs of non-white-space."""
    of: Scope = "conversation"
    """What is measured: all messages of the prompt, or its last user message."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give `at_least` or `at_most`")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} is more than at_most {self.at_most}")
        return self

    def judge(self, context: Context) -> Callable[[Prompt], Refused | None]:
        """By the number of characters or words."""

        def refuses(prompt: Prompt) -> Refused | None:
            text = text_of(prompt, self.of)
            length = len(text) if self.unit == "characters" else len(text.split())
            if self.at_least is not None and length < self.at_least:
                return "too_short", f"{length} {self.unit}, at least {self.at_least}"
            if self.at_most is not None and length > self.at_most:
                return "too_long", f"{length} {self.unit}, at most {self.at_most}"
            return None

        return refuses
