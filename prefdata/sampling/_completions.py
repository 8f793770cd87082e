"""Answers of a table as candidates, by prompt id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefdata.errors import InputError
from prefdata.records import Candidate, Drop, prompt_id_of
from prefdata.spec import JSON
from prefdata.spec.quoting import closest_of, quoted
from prefdata.tables.cells import PromptFormat, Unusable, parse_score, read_conversation
from prefdata.tables.finish_reasons import finish_reason_of, word_of
from prefdata.tables.ids import id_text
from prefdata.tables.kept import KeptValues
from prefdata.tables.row_answers import answers_of_row, whole_number
from prefdata.tables.written import read_written

__all__ = ["Columns", "PromptAnswers", "by_prompt", "prompt_id_of_row"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a table keeps what; see the fields of `ExistingCompletions`."""

    prompt: str
    prompt_id: str | None
    prompt_format: PromptFormat
    named: Mapping[str, str]
    """Role of an answer → column, or key of an object in `completions`: see `prefdata.tables.row_answers`."""
    completions: str | None = None
    written: bool = False
    """Whether the column of the answers holds lists as texts: see `prefdata.tables.written`."""

    keep: tuple[str, ...] = ()
    """Columns that travel along."""

    def of_table(self) -> list[str]:
        """Returns the columns to read from the table."""
        key = self.prompt if self.prompt_id is None else self.prompt_id
        answers = [self.completions] if self.completions else self.named.values()
        return list(dict.fromkeys([key, *answers, *self.keep]))


@dataclass(slots=True)
class PromptAnswers:
    """All answers of the table to one prompt."""

    rows: int = 0
    candidates: list[Candidate] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    kept: dict[str, JSON] | None = None
    """Columns that travel along."""
    _indexes: dict[str, set[int]] = field(default_factory=dict)

    def free_index(self, source: str, index: int | None) -> int | None:
        """Returns the given index, or the next one in the order of the file; None where it is taken."""
        taken = self._indexes.setdefault(source, set())
        index = len(taken) if index is None else index
        if index in taken:
            return None
        taken.add(index)
        return index


def by_prompt(
    rows: Iterable[dict[str, Any]],
    columns: Columns,
    name: str,
    source_of: Callable[[dict[str, Any]], str | None],
    counted: Callable[[str, int], None],
    table: str = "the table",
) -> dict[str, PromptAnswers]:
    """Reads the candidates of every prompt in a table, in the table's order. The whole table is held in memory.

    Args:
        rows: the table's rows.
        columns: where it keeps what.
        name: the sampler's name, under which rows without a source are dropped.
        source_of: returns an answer's `source`, None when the row does not name it.
        counted: counts `rows_with_unusable_prompt` and `scores_that_are_no_number`.
        table: the table, for messages.

    Raises:
        InputError: no object in the column of completions has a key that was named, a list is not written as JSON, or
            a column that travels along has several values for one prompt.
    """
    prompts: dict[str, PromptAnswers] = {}
    keys: dict[str, None] = {}
    kept = KeptValues(table, columns.keep)
    for number, row in enumerate(rows, 1):
        where = f"{table}, row {number}"
        prompt_id = prompt_id_of_row(row, columns, where)
        if prompt_id is None:
            counted("rows_with_unusable_prompt", 1)
            continue
        prompt = prompts.setdefault(prompt_id, PromptAnswers())
        prompt.rows += 1
        if columns.keep:
            kept.add(prompt_id, row, number)
            prompt.kept = kept.values[prompt_id]
        answers = answers_of_row(row, columns.named, columns.completions, written=columns.written, where=where)
        if isinstance(answers, str):
            prompt.drops.append(Drop(prompt_id, "candidates", "bad_completions", answers, name))
            continue
        if columns.completions is not None:
            objects: Any = read_written(row[columns.completions], columns.completions, where)
            keys.update(dict.fromkeys(key for item in objects or () for key in item))
        for answer in answers:
            _add(prompt, prompt_id, answer, columns, name, source_of(answer))
            score = answer.get("score")
            if score is not None and parse_score(score) is None:
                counted("scores_that_are_no_number", 1)
    for key in columns.named.values():
        if keys and key not in keys:
            raise InputError(
                f"no object in the column {columns.completions!r} has the key {key!r}",
                valid=closest_of(key, keys),
            )
    return prompts


def prompt_id_of_row(row: Mapping[str, Any], columns: Columns, where: str) -> str | None:
    """Returns the id of the prompt that a row answers; None where it has none that can be used.

    Args:
        row: its cells, by column.
        columns: where the table keeps what.
        where: the table and the row, for messages.

    Raises:
        InputError: the id is a number that has lost digits.
    """
    if columns.prompt_id is not None:
        try:
            given = id_text(row[columns.prompt_id])
        except ValueError as error:
            raise InputError(
                f"{where}: the column {columns.prompt_id!r}: {error}", hint="write ids as texts"
            ) from error
        return given if given is not None and given.strip() else None
    messages = read_conversation(row[columns.prompt], columns.prompt_format)
    return None if isinstance(messages, Unusable) else prompt_id_of(messages)


def _add(
    prompt: PromptAnswers, prompt_id: str, answer: dict[str, Any], columns: Columns, name: str, source: str | None
) -> None:
    def drop(reason: str, detail: str = "", index: int | None = None) -> None:
        prompt.drops.append(Drop(prompt_id, "candidates", reason, detail, source or name, index))

    if source is None:
        return drop("missing_model", "the source is to be the model, and the row names none")
    number = whole_number(answer.get("index"))
    if "index" in columns.named and number is None:
        return drop("bad_index", f"the index is {quoted(answer.get('index'), 300)}")
    index = prompt.free_index(source, number)
    if index is None:
        return drop("duplicate_candidate", "an earlier row has the same prompt, source and index", number)
    response = answer.get("response")
    if response is None:
        return drop("missing_response", index=index)
    if not isinstance(response, str):
        return drop("bad_response", f"a text is expected, found {type(response).__name__}", index)
    model, ending = answer.get("model"), columns.named.get("finish_reason", "")
    prompt.candidates.append(
        Candidate(
            prompt_id=prompt_id,
            source=source,
            index=index,
            response=response,
            model=None if model is None else str(model),
            finish_reason=finish_reason_of(word_of(answer.get("finish_reason"), ending)),
            n_tokens=whole_number(answer.get("n_tokens")),
            given_score=parse_score(answer.get("score")),
        )
    )
    return None
