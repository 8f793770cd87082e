"""Reads the roles of a table of scored answers out of its columns, whatever their shape: of one row, or of Arrow data.

What leaves this door has one form: answers are texts or lists of texts, prompts are texts or lists of messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefdata.lazy import pa, pc, pl
from prefdata.spec import canonical_json
from prefdata.tables.cells import json_turns
from prefdata.tables.columns import path_of, value_at
from prefdata.tables.finish_reasons import is_flag, word_of
from prefdata.tables.prompt_columns import PromptColumns
from prefdata.tables.row_answers import ANSWER_ROLES, answer_text, check_asked, check_said, is_talk
from prefdata.tables.scored_rows import wrong_type
from prefdata.tables.shapes import PROMPT_PARTS
from prefdata.tables.shown_answers import answers_shown, shows_list
from prefdata.tables.table import Table
from prefdata.tables.table_prompts import prompt_text
from prefdata.tables.written import MAY_BE_WRITTEN, TURNS_OF_PYTHON, check_turns, mixed_answers, read_written

__all__ = ["RoleReader"]


class RoleReader:
    """Reads roles out of rows and out of Arrow data.

    Args:
        table: the table.
        named: role → path; see `prefdata.tables.shapes`.

    Raises:
        InputError: the table can't be read.
    """

    def __init__(self, table: Table, named: Mapping[str, str]) -> None:
        self.table, self.named = table.name, named
        have = table.columns
        self._paths = {role: path_of(path, have) for role, path in named.items()}
        self.source = table.narrowed(self._keys())
        """The table, without what no role reads of the objects in its columns."""
        self._asked = PromptColumns(named.get("prompt", ""), named.get("system", ""), named.get("input", ""))
        self._is_talk = named.get("prompt") == named["response"]
        self._is_joined = self._is_talk or "system" in named or "input" in named
        shown = answers_shown(self._answers(self.source))
        self._turns = shown.kind == "turns"
        self._in_text = self._is_talk or shown.in_text
        self._written = self._is_talk or (shown.kind == "lists" and (shown.in_text or self.source.schema is None))
        self.is_wide = not self._is_talk and shown.kind == "lists"

    def _keys(self) -> dict[str, list[str]]:
        """Gives the keys that are read of each column of which nothing else is read."""
        keys: dict[str, list[str]] = {}
        for column, path in self._paths.values():
            keys.setdefault(column, []).append(".".join(path))
        return {column: paths for column, paths in keys.items() if all(paths)}

    def columns(self, roles: Sequence[str]) -> list[str]:
        """Returns the columns that are read for some roles."""
        with_parts = [*roles, *(PROMPT_PARTS if "prompt" in roles else ())]
        return list(dict.fromkeys(self._paths[role][0] for role in with_parts if role in self._paths))

    def cells(self, row: Mapping[str, Any], number: int, roles: Sequence[str]) -> dict[str, Any]:
        """Reads the cells of a row, by role.

        Args:
            row: its cells, by column.
            number: its number, for messages.
            roles: which; those that the table has are read.

        Raises:
            InputError: a list is not written as JSON, or the parts of the prompt don't fit together.
        """
        where = f"{self.table}, row {number}"
        cells = {role: self._value(row, role, where) for role in roles if role in self._paths}
        if "prompt" in cells:
            cells["prompt"] = self._prompt(row, cells["prompt"], where)
        if "response" in cells:
            self._read_answers(cells, row, where)
        if "finish_reason" in cells:
            cells["finish_reason"] = word_of(cells["finish_reason"], self.named["finish_reason"])
        return cells

    def _read_answers(self, cells: dict[str, Any], row: Mapping[str, Any], where: str) -> None:
        """Reads the answers of a row, and the lists beside them."""
        response, column = cells["response"], self.named["response"]
        if isinstance(response, str) and response.strip():
            response = self._read_text(response, cells.get("score"), where)
        elif self.is_wide and not isinstance(response, list):
            # A blank cell in a column of lists is no list, and has no scores.
            response = None
            cells |= dict.fromkeys({"score"} & {*cells})
        self._check_talks(response, row, where)
        if isinstance(response, list) and not is_talk(response):
            response = [answer_text(text) for text in response]
            for role in {*ANSWER_ROLES} & {*cells} - {"response"}:
                cells[role] = read_written(cells[role], self.named[role], where)
        cells["response"] = answer = answer_text(response)
        check_said(answer, column, where)

    def _read_text(self, text: str, score: object, where: str) -> object:
        """Reads an answer that is a text, or shows answers.

        Raises:
            InputError: it is not what most texts of the column are, so that one reading of both would be wrong.
        """
        column = self.named["response"]
        if self._turns:
            check_turns(text, column, where)
            if (turns := json_turns(text)) is None:
                raise mixed_answers(column, where, text, "conversations as JSON")
            return turns
        if self._written:
            check_turns(text, column, where)
            read = read_written(text, column, where)
            if isinstance(read, str) and self._in_text:
                raise mixed_answers(column, where, text, "conversations" if self._is_talk else "lists of answers")
            return read
        if shows_list(text, score):
            raise mixed_answers(column, where, text, "single answers")
        return text

    def _check_talks(self, response: object, row: Mapping[str, Any], where: str) -> None:
        """Refuses answers in conversations whose turns before the answer are not the prompt."""
        if self._is_talk or "prompt" not in self._paths:
            return
        for talk in response if isinstance(response, list) and not is_talk(response) else [response]:
            if isinstance(talk, list) and is_talk(talk) and len(talk) > 1:
                prompt = self._prompt(row, self._value(row, "prompt", where), where)
                check_asked(talk[:-1], prompt, self.named["response"], self.named["prompt"], where)

    def arrays(self, batch: pa.RecordBatch, first: int, roles: Sequence[str]) -> dict[str, pa.Array]:
        """Reads columns of Arrow data, by role.

        Args:
            batch: some rows, of plain types.
            first: the number of its first row, for messages.
            roles: which; those that the table has are read.

        Raises:
            InputError: see `cells`.
        """
        arrays: dict[str, pa.Array] = {}
        for role in roles:
            if role in self._paths:
                column, keys = self._paths[role]
                arrays[role] = _at(batch.column(column), keys)
        if self._is_odd(batch, arrays):
            # A prompt of one column stays as it is, so that it is of one type in all batches.
            names = [role for role in arrays if role in ANSWER_ROLES or (role == "prompt" and self._is_joined)]
            rows = [self.cells(row, first + at, names) for at, row in enumerate(batch.to_pylist())]
            arrays |= {role: self._array(role, [row[role] for row in rows], arrays[role].type) for role in names}
        elif "finish_reason" in arrays and is_flag(self.named["finish_reason"]):
            words = [word_of(cell, self.named["finish_reason"]) for cell in arrays["finish_reason"].to_pylist()]
            arrays["finish_reason"] = self._array("finish_reason", words, arrays["finish_reason"].type)
        return arrays

    def check_prompts(self, rows: pl.DataFrame, first: int) -> None:
        """Refuses prompts that are conversations as Python or NumPy writes them.

        Not done by `arrays`, since many rows at once cost less than half as much as a batch of them.

        Args:
            rows: columns of `arrays`.
            first: the number of the first row, for messages.

        Raises:
            InputError: there is one.
        """
        if self._is_joined or rows.schema.get("prompt") != pl.String:
            return
        for at in rows["prompt"].str.contains(TURNS_OF_PYTHON).arg_true().to_list():
            check_turns(rows["prompt"][at], self.named["prompt"], f"{self.table}, row {first + at}")

    def _value(self, row: Mapping[str, Any], role: str, where: str) -> Any:
        column, keys = self._paths[role]
        return value_at(read_written(row[column], column, where), keys) if keys else row[column]

    def _prompt(self, row: Mapping[str, Any], cell: Any, where: str) -> Any:
        """Joins the parts of a prompt."""
        asked, column = self._asked, self.named["prompt"]
        if self._is_talk:
            check_turns(cell, column, where)
            cell = read_written(cell, column, where)
            cell = cell[:-1] if isinstance(cell, list) else cell
        parts = {role: self._value(row, role, where) for role in PROMPT_PARTS if role in self._paths}
        named = {asked.prompt: cell, **{self.named[role]: value for role, value in parts.items()}}
        return asked.cell(named, where)

    def _answers(self, table: Table) -> Iterator[tuple[Any, Any]]:
        for number, row in enumerate(table.rows(only=self.columns(["response", "score"])), 1):
            where = f"{self.table}, row {number}"
            yield self._value(row, "response", where), self._value(row, "score", where)

    def _is_odd(self, batch: pa.RecordBatch, arrays: Mapping[str, pa.Array]) -> bool:
        """Checks whether cells are to be read one by one."""
        if "prompt" in arrays and self._is_joined:
            return True
        if "response" not in arrays:
            return False
        kind = arrays["response"].type
        within = [batch.column(self._paths[role][0]).type for role in arrays if self._paths[role][1]]
        if self._written or self._turns or not _holds_texts(kind) or any(map(_is_text, within)):
            return True
        if "score" in arrays and _is_text(kind) and _shows_lists(arrays["score"]):
            return True
        return _is_list(kind) and any(_shows_lists(arrays[role]) for role in {*ANSWER_ROLES} & {*arrays} - {"response"})

    def _array(self, role: str, values: list[Any], kind: pa.DataType) -> pa.Array:
        if role == "prompt":
            return pa.array([prompt_text(value) for value in values], pa.string())
        try:
            return pa.array(values, pa.list_(pa.string()) if role == "response" and self.is_wide else None)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            if role == "response":
                raise wrong_type(self.table, self.named["response"], f"{kind}") from None
            return pa.array([_spelt(value) for value in values])


def _spelt(value: Any) -> Any:
    """Gives values of several types as texts, and lists of them as lists of texts."""
    if isinstance(value, list):
        return [_spelt(item) for item in value]
    return value if value is None or isinstance(value, str) else canonical_json(value)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _shows_lists(cells: pa.Array) -> bool:
    """Checks whether texts may show lists."""
    return _is_text(cells.type) and bool(pc.any(pc.match_substring_regex(cells, MAY_BE_WRITTEN)).as_py())


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind))


def _holds_texts(kind: pa.DataType) -> bool:
    inner = kind.value_type if _is_list(kind) else kind
    return _is_text(inner) or bool(pa.types.is_null(inner))


def _at(array: pa.Array, keys: Sequence[str]) -> pa.Array:
    """Returns the values under the keys, as `prefdata.tables.shapes.value_at` does."""
    if not keys:
        return array
    kind = array.type
    if _is_list(kind):
        of_lists = pa.ListArray if pa.types.is_list(kind) else pa.LargeListArray
        return of_lists.from_arrays(array.offsets, _at(array.values, keys), mask=array.is_null())
    if pa.types.is_struct(kind) and kind.get_field_index(keys[0]) >= 0:
        return _at(pc.struct_field(array, keys[0]), keys[1:])
    if _is_text(kind):
        # Read cell by cell, as JSON.
        return array
    return pa.nulls(len(array))
