"""Defines `TemplateOptions`: what a chat template is given besides the messages, the date among it.

A template is a program of the model's authors, and some ask for today's date. The clock is no input, so every template
that asks is given the date of the recipe, in sampling, in scoring and in training.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field

from prefdata.spec import JSON, Spec
from prefdata.spec.marks import Acts, Harmless

__all__ = [
    "TEMPLATE_DATE",
    "TemplateArguments",
    "TemplateDate",
    "TemplateOptions",
    "reads_the_date",
    "template_variables",
]

TEMPLATE_DATE = "2024-07-26"
"""The date that a chat template sees where a recipe names none: what Llama 3's own takes without a clock."""
_CLOCK = "strftime_now"
"""The function through which templates read the clock."""
_ARGUMENTS = Acts(
    "body",
    "hands arguments of its own to a chat template",
    harmless_keys=frozenset(
        {"enable_thinking", "reasoning", "reasoning_effort", "thinking", "thinking_budget", "thinking_mode"}
    ),
)
_OURS = frozenset(
    {"add_generation_prompt", "chat_template", "continue_final_message", "conversation", "messages", "tokenize"}
    | {"max_length", "padding", "processor_kwargs", "return_assistant_tokens_mask", "return_dict", "return_tensors"}
    | {"raise_exception", "self", "tokenizer_kwargs", "truncation", _CLOCK}
)


def _checked(arguments: dict[str, JSON]) -> dict[str, JSON]:
    if taken := sorted(_OURS & arguments.keys()):
        raise ValueError(f"chat_template_kwargs may not hold {', '.join(taken)}: prefdata sets them, or nobody may")
    return arguments


def _checked_date(date: str) -> str:
    datetime.date.fromisoformat(date)
    return date


TemplateArguments: TypeAlias = Annotated[
    dict[str, JSON], _ARGUMENTS, AfterValidator(_checked), Field(exclude_if=lambda arguments: not arguments)
]
"""Variables of a chat template by name."""
TemplateDate: TypeAlias = Annotated[
    str,
    Harmless,
    AfterValidator(_checked_date),
    Field(pattern=r"^\d{4}-\d{2}-\d{2}$", exclude_if=lambda date: date == TEMPLATE_DATE),
]
"""A day, as YYYY-MM-DD."""


class TemplateOptions(Spec):
    """What the chat template of a model on this machine is given besides the messages."""

    chat_template_kwargs: TemplateArguments = Field(default_factory=dict)
    """Variables of the chat template, by the names that its authors gave them: `enable_thinking`, ..."""
    template_date: TemplateDate = TEMPLATE_DATE
    """The day that a chat template sees which asks for today: the clock is no input. The lock has it where the template
    asks."""

    def template_config(self, pins: Mapping[str, JSON]) -> dict[str, JSON]:
        """Returns what a worker needs to know of these options.

        Args:
            pins: of the model in the lock; a lock of an earlier version names no date, and then the recipe's holds.
        """
        date = pins.get("template_date", self.template_date)
        return {"chat_template_kwargs": self.chat_template_kwargs, "template_date": date}


def reads_the_date(template: object) -> bool:
    """Tells whether a chat template, or one of several, asks for today's date."""
    return _CLOCK in str(template)


def template_variables(template: object, arguments: Mapping[str, JSON], date: str) -> dict[str, JSON]:
    """Returns the variables of a rendering besides the messages.

    Args:
        template: the text of the chat template, or several.
        arguments: variables by name.
        date: the day that it sees.
    """
    clock = {_CLOCK: datetime.date.fromisoformat(date).strftime} if reads_the_date(template) else {}
    return {**arguments, **clock}
