"""Reads the roles of a table of scored answers out of its columns, whatever their shape: of one row, or of Arrow data.

What leaves this door has one form: answers are texts or lists of texts, prompts are texts or lists of messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefdata.lazy import pa, pc, pl
from prefdata.tables.cells import json_turns
from prefdata.tables.columns import path_of, value_at
from prefdata.tables.finish_reasons import is_flag, word_of
from prefdata.tables.prompt_columns import PromptColumns
from prefdata.tables.row_answers import ANSWER_ROLES, answer_text, check_asked, check_said, is_talk
from prefdata.tables.scored_rows import one_score, text_of, wrong_type
from prefdata.tables.shapes import PROMPT_PARTS
from prefdata.tables.shown_answers import answers_shown, is_empty, shows_list
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
            score = self._value(row, "score", where) if self._paths["score"][0] in row else None
            cells["response"] = answer = self._answer(cells["response"], score, where)
            self._check_talks(answer, row, where)
            self._read_answers(cells, where)
        if "finish_reason" in cells:
            cells["finish_reason"] = word_of(cells["finish_reason"], self.named["finish_reason"])
        return cells

    def _answer(self, cell: Any, score: Any, where: str) -> Any:
        """Reads a cell of the column of answers. An empty list is one of messages where others are."""
        if isinstance(cell, str) and cell.strip():
            cell = self._read_text(cell, score, where)
        if self.is_wide:
            # A blank cell in a column of lists is no list.
            return [] if cell is None or (isinstance(cell, str) and not cell.strip()) else cell
        return None if cell == [] else cell

    def _read_text(self, text: str, score: Any, where: str) -> Any:
        """Reads an answer that is a text, or shows answers.

        Raises:
            InputError: it is not what most texts of the column are, so that one reading of both would be wrong.
        """
        column = self.named["response"]
        if self._turns or self._written:
            check_turns(text, column, where)
            read = read_written(text, column, where) if self._written else json_turns(text) or text
            if isinstance(read, str) and is_empty(read):
                return []
            if isinstance(read, str) and (self._in_text or self._turns):
                others = "lists of answers" if self.is_wide else "conversations"
                raise mixed_answers(column, where, text, others)
            return read
        if shows_list(text, score):
            raise mixed_answers(column, where, text, "single answers")
        return text

    def _check_talks(self, response: Any, row: Mapping[str, Any], where: str) -> None:
        """Refuses answers in conversations whose turns before the answer are not the prompt, where it is read."""
        parts = [self._paths[role][0] for role in ("prompt", *PROMPT_PARTS) if role in self._paths]
        if self._is_talk or "prompt" not in self._paths or not {*parts} <= {*row}:
            return
        talks = response if isinstance(response, list) and not is_talk(response) else [response]
        if asked := [talk[:-1] for talk in talks if isinstance(talk, list) and is_talk(talk) and len(talk) > 1]:
            prompt = self._prompt(row, self._value(row, "prompt", where), where)
            check_asked(asked, prompt, self.named["response"], self.named["prompt"], where)

    def _read_answers(self, cells: dict[str, Any], where: str) -> None:
        """Reads the answers of a row, and the lists beside them."""
        response = cells["response"]
        if isinstance(response, list) and not is_talk(response):
            response = [answer_text(text) for text in response]
            for role in {*ANSWER_ROLES} & {*cells} - {"response"}:
                cells[role] = read_written(cells[role], self.named[role], where)
        else:
            response = answer_text(response)
        cells["response"] = response
        check_said(response, self.named["response"], where)

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
        if names := self._read_apart(batch, arrays):
            # Turns before an answer are compared with the prompt, and a list is one beside a list of scores.
            beside = [role for role in ("prompt", "score") if role in arrays] if "response" in names else []
            cells = batch.select(self.columns([*names, *beside])).to_pylist()
            rows = [self.cells(row, first + at, names) for at, row in enumerate(cells)]
            arrays |= self._joined(names, rows, arrays)
        if "finish_reason" in arrays and "finish_reason" not in names and is_flag(self.named["finish_reason"]):
            kind = arrays["finish_reason"].type
            words = [word_of(cell, self.named["finish_reason"]) for cell in arrays["finish_reason"].to_pylist()]
            arrays["finish_reason"] = self._texts("finish_reason", words, are_lists=_is_list(kind))
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
        value = value_at(read_written(row[column], column, where), keys) if keys else row[column]
        # A score says that it is NaN; of anything else it is how programs write null that have no other.
        return None if isinstance(value, float) and value != value and role != "score" else value

    def _prompt(self, row: Mapping[str, Any], cell: Any, where: str) -> Any:
        """Joins the parts of a prompt."""
        asked, column = self._asked, self.named["prompt"]
        if self._is_talk:
            check_turns(cell, column, where)
            cell = read_written(cell, column, where)
            # A conversation of no turns has no prompt, as one that is null.
            cell = (cell[:-1] if cell else None) if isinstance(cell, list) else cell
        parts = {role: self._value(row, role, where) for role in PROMPT_PARTS if role in self._paths}
        named = {asked.prompt: cell, **{self.named[role]: value for role, value in parts.items()}}
        return asked.cell(named, where)

    def _answers(self, table: Table) -> Iterator[tuple[Any, Any]]:
        for number, row in enumerate(table.rows(only=self.columns(["response", "score"])), 1):
            where = f"{self.table}, row {number}"
            yield self._value(row, "response", where), self._value(row, "score", where)

    def _read_apart(self, batch: pa.RecordBatch, arrays: Mapping[str, pa.Array]) -> list[str]:
        """Lists the roles whose cells are to be read one by one."""
        # A prompt of one column stays as it is, so that it is of one type in all batches.
        names = ["prompt"] if "prompt" in arrays and self._is_joined else []
        if "response" in arrays and self._has_odd_answers(batch, arrays):
            said = [role for role in arrays if role in ANSWER_ROLES]
            names += [role for role in said if role == "response" or self.is_wide or self._paths[role][1]]
        return names

    def _has_odd_answers(self, batch: pa.RecordBatch, arrays: Mapping[str, pa.Array]) -> bool:
        kind = arrays["response"].type
        within = [batch.column(self._paths[role][0]).type for role in arrays if self._paths[role][1]]
        if self._written or self._turns or not _holds_texts(kind) or any(map(_is_text, within)):
            return True
        if "score" in arrays and _is_text(kind) and _shows_lists(arrays["score"]):
            return True
        return _is_list(kind) and any(_shows_lists(arrays[role]) for role in {*ANSWER_ROLES} & {*arrays} - {"response"})

    def _joined(
        self, names: Sequence[str], rows: list[dict[str, Any]], arrays: Mapping[str, pa.Array]
    ) -> dict[str, pa.Array]:
        """Makes columns of cells that were read one by one, of types that do not depend on what the cells hold."""
        found: dict[str, pa.Array] = {}
        if self.is_wide and "response" in names:
            rows = [_side_by_side(row) for row in rows]
        for role in names:
            values = [row[role] for row in rows]
            if role == "prompt":
                found[role] = pa.array([prompt_text(value) for value in values], pa.string())
            elif role == "response":
                found[role] = self._of_answers(values, arrays[role].type)
            elif role == "score":
                found |= self._of_scores(values)
            else:
                found[role] = self._texts(role, values, are_lists=self.is_wide)
        return found

    def _of_answers(self, values: list[Any], kind: pa.DataType) -> pa.Array:
        texts = (text for value in values for text in (value if self.is_wide else [value]))
        if not all(text is None or isinstance(text, str) for text in texts):
            raise wrong_type(self.table, self.named["response"], f"{kind}")
        return pa.array(values, _type_of(pa.string(), self.is_wide))

    def _of_scores(self, values: list[Any]) -> dict[str, pa.Array]:
        """Parses scores, since no type of Arrow holds words beside numbers."""
        parsed = [[one_score(cell) for cell in (value if self.is_wide else [value])] for value in values]
        found = {}
        for at, (role, kind) in enumerate((("score", pa.float64()), ("unscored", pa.string()))):
            lists = [[each[at] for each in cells] for cells in parsed]
            cells = lists if self.is_wide else [cell for (cell,) in lists]
            found[role] = pa.array(cells, _type_of(kind, self.is_wide))
        return found

    def _texts(self, role: str, values: list[Any], *, are_lists: bool) -> pa.Array:
        def text(value: Any) -> str | None:
            return text_of(self.table, self.named, role, value)

        if are_lists:
            values = [value if value is None else [text(item) for item in value] for value in values]
        else:
            values = [text(value) for value in values]
        return pa.array(values, _type_of(pa.string(), are_lists))


def _side_by_side(cells: dict[str, Any]) -> dict[str, Any]:
    """Gives what a row of several answers says of them as lists; what is no list holds for all of them."""
    answers, roles = cells["response"], [role for role in cells if role in ANSWER_ROLES]
    if not isinstance(answers, list):
        return {role: [cell] if role in roles else cell for role, cell in cells.items()}
    whole = {role: cells[role] if isinstance(cells[role], list) else [cells[role]] * len(answers) for role in roles}
    # Neither is one score that of all, nor one place.
    own: dict[str, list[Any]] = {"score": [], "index": list(range(len(answers)))}
    return {
        **cells,
        **whole,
        **{role: own[role] for role in roles if role in own and not isinstance(cells[role], list)},
    }


def _type_of(kind: pa.DataType, is_list: bool) -> pa.DataType:
    return pa.list_(kind) if is_list else kind


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
