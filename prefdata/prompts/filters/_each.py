"""`EachPrompt`: a filter that looks at one prompt at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from prefdata.prompts.base import PromptFilter
from prefdata.records import Drop, Prompt
from prefdata.spec import Context

__all__ = ["EachPrompt", "Refused"]

Refused: TypeAlias = tuple[str, str]
"""Reason and detail of a drop."""


class EachPrompt(PromptFilter):
    """A filter whose verdict on a prompt doesn't depend on the others."""

    @abstractmethod
    def judge(self, context: Context) -> Callable[[Prompt], Refused | None]:
        """What tells of one prompt why it is dropped, or None."""

    def filter(self, prompts: Sequence[Prompt], context: Context) -> Iterator[Prompt | Drop]:
        """See `PromptFilter.filter`."""
        refuses = self.judge(context)
        for prompt in prompts:
            refused = refuses(prompt)
            yield prompt if refused is None else Drop(prompt.prompt_id, "prompts", *refused)
