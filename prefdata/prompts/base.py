"""`PromptSource`: where prompts come from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from prefdata.records import Drop, Prompt
from prefdata.spec import Context, Part

__all__ = ["PromptSource"]


class PromptSource(Part):
    """Rows of a dataset or file that hold a conversation to be answered."""

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
