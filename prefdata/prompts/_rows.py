"""A row of a table -> a prompt, or the drop that says why it is none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from prefdata.prompts.base import PromptSource
from prefdata.records import Drop, Prompt, prompt_id_of
from prefdata.spec import Context
from prefdata.tables.cells import PromptFormat, Unusable, read_conversation

__all__ = ["TablePrompts"]


class TablePrompts(PromptSource):
    """Prompts in a column of a table; where the table lies is up to the subclass."""

    prompt_column: str = "prompt"
    """Holds the prompt: a text, a list of messages, or the JSON text of such a list."""
    prompt_id_column: str | None = None
    """Holds the prompt id. Without one it is the SHA-256 of the text (`records.prompt_id_of`)."""
    prompt_format: PromptFormat = "auto"
    """How a text is read: `text`, `messages` (JSON), or `auto`: as messages when it is a JSON list of them."""

    @abstractmethod
    def _table(self, context: Context) -> tuple[str, Iterable[dict[str, Any]]]:
        """What to call the table in `Prompt.origin`, and its rows."""

    def _columns(self) -> list[str]:
        return [self.prompt_column, *([self.prompt_id_column] if self.prompt_id_column else [])]

    def read(self, context: Context) -> Iterator[Prompt | Drop]:
        """One `Prompt` or `Drop` for each row, in the table's order; see `PromptSource.read`."""
        name, table = self._table(context)
        for number, row in enumerate(table, 1):
            yield self._record(row, f"{name}, row {number}", number, context)

    def _record(self, row: dict[str, Any], origin: str, number: int, context: Context) -> Prompt | Drop:
        given = row.get(self.prompt_id_column) if self.prompt_id_column else None
        messages = read_conversation(row.get(self.prompt_column), self.prompt_format)
        if given is not None and not _is_id(given):
            messages = Unusable("bad_prompt_id", f"the prompt id is {given!r}")
            given = None
        if isinstance(messages, Unusable):
            # A row without an id still needs a name of its own in the table of drops.
            lost = f"row:{number}" if given is None else str(given)
            return Drop(lost, "prompts", messages.reason, ": ".join(filter(None, [origin, messages.detail])))
        computed = prompt_id_of(messages)
        if self.prompt_id_column and given is None:
            context.counted("prompt_ids_computed", 1)
        elif given is not None and str(given) != computed:
            context.counted("prompt_ids_that_are_not_the_hash", 1)
        return Prompt(computed if given is None else str(given), messages, origin)


def _is_id(value: object) -> bool:
    return bool(value.strip()) if isinstance(value, str) else isinstance(value, int) and not isinstance(value, bool)
