"""Defines `PromptSource`, which reads prompts, and `PromptFilter`, which keeps or drops them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

from prefdata.records import Drop, Prompt
from prefdata.spec import Context, Part

__all__ = ["PromptFilter", "PromptSource"]


class PromptSource(Part):
    """Rows of a dataset or file that hold a conversation to be answered."""

    room: ClassVar[str] = "prompt source"

    def kept_columns(self) -> tuple[str, ...]:
        """Names the columns that travel along with its prompts (`Prompt.kept`)."""
        return ()

    @abstractmethod
    def read(self, context: Context) -> Iterator[Prompt | Drop]:
        """Reads every row once, in the source's order: a prompt, or a drop with the reason why it is not one.

        Duplicates are not removed here: the flow merges them by `prompt_id` and counts them.

        Args:
            context: pins and log of this part.

        Yields:
            One record for each row of the source.

        Raises:
            InputError: the source can't be read, or a named column is missing.
        """


class PromptFilter(Part):
    """Keeps or drops prompts. Filters run in the recipe's order; each sees what the previous one kept."""

    room: ClassVar[str] = "prompt filter"

    @abstractmethod
    def filter(self, prompts: Sequence[Prompt], context: Context) -> Iterator[Prompt | Drop]:
        """Yields each prompt unchanged, or a drop with a reason.

        Args:
            prompts: all prompts at once, no two with the same id, in the source's order. A filter that removes
                duplicates keeps the first.
            context: pins and log of this part.

        Yields:
            One record for each prompt, in their order.
        """
