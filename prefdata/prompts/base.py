"""`PromptSource`: where prompts come from. `PromptFilter`: which of them go on."""

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

    @abstractmethod
    def read(self, context: Context) -> Iterator[Prompt | Drop]:
        """Reads every row once, in the source's order: a prompt, or the drop that says why it is none.

        Duplicates are not removed here: the flow merges them by `prompt_id` and counts them.

        Args:
            context: pins and log of this part.

        Yields:
            One record for each row of the source.

        Raises:
            InputError: the source can't be read, or lacks the column that it should have.
        """


class PromptFilter(Part):
    """Keeps or drops prompts. Filters run in the recipe's order; each sees what the previous one kept."""

    room: ClassVar[str] = "prompt filter"

    @abstractmethod
    def filter(self, prompts: Sequence[Prompt], context: Context) -> Iterator[Prompt | Drop]:
        """Passes each prompt on, unchanged, or drops it with a reason.

        Args:
            prompts: all prompts at once, no two with one id, in the source's order: of two that are alike, the first
                is kept.
            context: pins and log of this part.

        Yields:
            One record for each prompt, in their order.
        """
