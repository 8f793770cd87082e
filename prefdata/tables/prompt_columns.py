"""The columns of which a prompt is made: what is asked, a further input to it, and a system turn in front."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prefdata.errors import InputError
from prefdata.tables.cells import PromptFormat, json_turns, says
from prefdata.tables.written import check_turns

__all__ = ["INPUT_NAMES", "SYSTEM_NAMES", "PromptColumns"]

SYSTEM_NAMES = (
    *("system", "system_prompt", "system_message", "system_msg", "sys_prompt", "system_instruction"),
    *("system_instructions", "developer_message", "developer_prompt"),
)
"""Columns that look like a system turn."""
INPUT_NAMES = ("input",)
"""Columns that look like a further input, beside a column `instruction`."""


@dataclass(frozen=True, slots=True)
class PromptColumns:
    """Where a table keeps its prompts.

    Args:
        prompt: the column of what is asked: a text, messages, or the JSON text of messages.
        system: the column of the system turn, which is put in front; None: there is none; empty: it is left out.
        input: the column of a further input, which follows the instruction after a blank line; None and empty as above.
        how: how texts of `prompt` are read.
    """

    prompt: str
    system: str | None = None
    input: str | None = None
    how: PromptFormat = "auto"

    def names(self) -> list[str]:
        """Returns the columns that are read."""
        return [name for name in (self.prompt, self.input, self.system) if name]

    def unread(self) -> list[str]:
        """Returns columns that would be a part of the prompt, and that nobody has named."""
        names = [*(SYSTEM_NAMES if self.system is None else ())]
        if self.input is None and self.prompt == "instruction":
            names += INPUT_NAMES
        return [name for name in names if name not in self.names()]

    def cell(self, row: Mapping[str, Any], where: str) -> Any:
        """Returns the prompt of a row as one cell: see `prefdata.tables.cells.read_conversation`.

        Args:
            row: a row with the columns `names`, and those of `unread` that the table has.
            where: the table and the row, for messages.

        Raises:
            InputError: the conversation is not written as JSON, a part of the prompt is not read, or two parts of it
                contradict each other.
        """
        cell = row.get(self.prompt)
        if self.how != "text":
            check_turns(cell, self.prompt, where)
        for name in self.unread():
            if says(row.get(name)):
                raise _unread(where, name, "system" if name in SYSTEM_NAMES else "input")
        if cell is not None and self.input and says(further := row.get(self.input)):
            if not isinstance(cell, str) or not isinstance(further, str) or self._turns(cell):
                raise InputError(
                    f"{where}: the column {self.input!r} can't follow {self.prompt!r}, which holds a conversation",
                    valid="texts in both columns",
                    hint="leave the column of the input out",
                )
            cell = f"{cell}\n\n{further}" if cell.strip() else further
        if cell is None or not self.system or not says(system := row.get(self.system)):
            return cell
        return self._with_system(cell, system, where)

    def cells(self, rows: Iterator[dict[str, Any]], table: str) -> Iterator[dict[str, Any]]:
        """Yields the rows with the whole prompt in the column `prompt`.

        Args:
            rows: see `cell`.
            table: the table, for messages.

        Raises:
            InputError: see `cell`.
        """
        for number, row in enumerate(rows, 1):
            yield {**row, self.prompt: self.cell(row, f"{table}, row {number}")}

    def _turns(self, cell: object) -> list[Any] | None:
        if isinstance(cell, str):
            return None if self.how == "text" else json_turns(cell)
        return list(cell) if isinstance(cell, list | tuple) else None

    def _with_system(self, cell: object, system: object, where: str) -> object:
        turn = {"role": "system", "content": system}
        turns = self._turns(cell)
        if turns is None:
            return [turn, {"role": "user", "content": cell}]
        first = turns[0] if turns and isinstance(turns[0], dict) else {}
        if "system" in (first.get("role"), first.get("from")):
            if system in (first.get("content"), first.get("value")):
                return cell
            raise InputError(
                f"{where}: the columns {self.system!r} and {self.prompt!r} have different system turns",
                valid="one system turn",
                hint="leave the column of the system turn out",
            )
        return [turn, *turns]


def _unread(where: str, name: str, role: str) -> InputError:
    return InputError(
        f"{where}: the column {name!r} looks like a part of the prompt, and is not read",
        valid=f"{role}_column={name!r}, or {role}_column='' where it is none",
        hint="say which in the recipe",
    )
