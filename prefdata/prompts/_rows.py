"""Converts a row of a table to a prompt, or to a drop with the reason why it is not one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import Field

from prefdata.prompts.base import PromptSource
from prefdata.records import Drop, Prompt, prompt_id_of
from prefdata.spec import Context
from prefdata.spec.marks import Harmless
from prefdata.spec.quoting import quoted
from prefdata.tables.cells import PromptFormat, Unusable, read_conversation
from prefdata.tables.ids import id_text
from prefdata.tables.kept import kept_value
from prefdata.tables.prompt_columns import PromptColumns

__all__ = ["TablePrompts"]


class TablePrompts(PromptSource):
    """Prompts in a column of a table; a subclass says where the table is."""

    prompt_column: Annotated[str, Harmless] = "prompt"
    """Column of the prompt: a text, a list of messages, or the JSON text of such a list."""
    prompt_id_column: Annotated[str | None, Harmless] = None
    """Column of the prompt id; None computes it from the prompt (SHA-256, see `records.prompt_id_of`)."""
    prompt_format: Annotated[PromptFormat, Harmless] = "auto"
    """How a text is read: `text`, `messages` (JSON), or `auto`: as messages if it is the JSON of one or of a list."""
    system_column: Annotated[str | None, Harmless, Field(exclude_if=lambda name: name is None)] = None
    """Column of a system turn, which is put in front of the prompt. None: there is none, and a table with a column
    `system` or `system_prompt` that holds texts is refused; an empty text leaves such a column out."""
    input_column: Annotated[str | None, Harmless, Field(exclude_if=lambda name: name is None)] = None
    """Column of a further input (Alpaca's `input`), which follows the prompt after a blank line. None: there is none,
    and a column `input` beside `instruction` is refused; an empty text leaves such a column out."""

    keep: Annotated[tuple[str, ...], Harmless, Field(exclude_if=lambda names: not names)] = ()
    """Columns that travel along to the pairs, answers and drops of the dataset. Of rows that repeat a prompt the first
    one's count, as for the prompt itself."""

    def kept_columns(self) -> tuple[str, ...]:
        """Names the columns of `keep`."""
        return self.keep

    @abstractmethod
    def _table(self, context: Context) -> tuple[str, Iterable[dict[str, Any]]]:
        """Returns the name of the table in `Prompt.origin`, and its rows."""

    def _asked(self) -> PromptColumns:
        return PromptColumns(self.prompt_column, self.system_column, self.input_column, self.prompt_format)

    def _columns(self) -> list[str]:
        names = [*self._asked().names(), *([self.prompt_id_column] if self.prompt_id_column else []), *self.keep]
        return list(dict.fromkeys(names))

    def read(self, context: Context) -> Iterator[Prompt | Drop]:
        """Yields one `Prompt` or `Drop` for each row, in the table's order; see `PromptSource.read`."""
        name, table = self._table(context)
        asked = self._asked()
        for number, row in enumerate(table, 1):
            origin = f"{name}, row {number}"
            yield self._record(asked.cell(row, origin), row, origin, number, context)

    def _record(self, cell: object, row: dict[str, Any], origin: str, number: int, context: Context) -> Prompt | Drop:
        own_id = row.get(self.prompt_id_column) if self.prompt_id_column else None
        kept = {name: kept_value(row[name], origin, name) for name in self.keep} or None
        messages = read_conversation(cell, self.prompt_format)
        if own_id is not None and (given := _own_id(own_id)) is None:
            messages = Unusable("bad_prompt_id", f"the prompt id is {quoted(own_id, 300)}")
            own_id = None
        elif own_id is not None:
            own_id = given
        if isinstance(messages, Unusable):
            # A row without an id still needs a name of its own in the table of drops.
            drop_id = f"row:{number}" if own_id is None else str(own_id)
            return Drop(
                drop_id, "prompts", messages.reason, ": ".join(filter(None, [origin, messages.detail])), kept=kept
            )
        computed_id = prompt_id_of(messages)
        if self.prompt_id_column and own_id is None:
            context.counted("prompt_ids_computed", 1)
        elif own_id is not None and str(own_id) != computed_id:
            context.counted("prompt_ids_that_are_not_the_hash", 1)
        return Prompt(computed_id if own_id is None else str(own_id), messages, origin, kept=kept)


def _own_id(value: object) -> str | None:
    """Returns an id as text; None for what is not a text or a whole number."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        text = id_text(value)
    except ValueError:
        return None
    return text if text is not None and text.lstrip("-").isdigit() else None
