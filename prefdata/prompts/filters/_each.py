"""Defines `EachPrompt`, a filter that looks at one prompt at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from prefdata.prompts.base import PromptFilter
from prefdata.records import Drop, Prompt
from prefdata.spec import Context

__all__ = ["EachPrompt", "Refusal"]

Refusal: TypeAlias = tuple[str, str]
"""Reason and detail of a drop."""


class EachPrompt(PromptFilter):
    """A filter whose verdict on a prompt doesn't depend on the others."""

    @abstractmethod
    def judge(self, context: Context) -> Callable[[Prompt], Refusal | None]:
        """Returns a function that returns reason and detail if a prompt is dropped, and None if it is kept."""

    def filter(self, prompts: Sequence[Prompt], context: Context) -> Iterator[Prompt | Drop]:
        """Judges each prompt by itself; see `PromptFilter.filter`."""
        judge = self.judge(context)
        for prompt in prompts:
            refusal = judge(prompt)
            yield prompt if refusal is None else Drop(prompt.prompt_id, "prompts", *refusal)
