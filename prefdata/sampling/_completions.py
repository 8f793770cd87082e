"""A table of published answers -> candidates by prompt id, whatever of three layouts it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from prefdata.errors import InputError, closest
from prefdata.records import Candidate, Drop, FinishReason, prompt_id_of
from prefdata.tables.cells import PromptFormat, Unusable, parse_score, read_conversation

__all__ = ["Columns", "Found", "by_prompt"]

_FINISHED: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a table keeps what; see the fields of `ExistingCompletions`."""

    prompt: str
    prompt_id: str | None
    prompt_format: PromptFormat
    completions: str | None
    response: str
    model: str | None = None
    score: str | None = None
    finish_reason: str | None = None
    n_tokens: str | None = None
    index: str | None = None

    def of_completions(self) -> list[str]:
        """The columns of one answer: of the table, or of the objects in its `completions`."""
        named = (self.response, self.model, self.score, self.finish_reason, self.n_tokens, self.index)
        return [name for name in named if name is not None]

    def of_table(self) -> list[str]:
        """The columns to read from the table."""
        key = self.prompt if self.prompt_id is None else self.prompt_id
        return list(dict.fromkeys([key, *([self.completions] if self.completions else self.of_completions())]))


@dataclass(slots=True)
class Found:
    """All answers of the table to one prompt."""

    rows: int = 0
    candidates: list[Candidate] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    _taken: dict[str, set[int]] = field(default_factory=dict)

    def number(self, source: str, index: int | None) -> int | None:
        """A free index in the order of the file, or the given one; None when that is taken."""
        taken = self._taken.setdefault(source, set())
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
) -> dict[str, Found]:
    """The candidates of every prompt in a table, in the table's order. The whole table is held in memory.

    Args:
        rows: the table's rows.
        columns: where it keeps what.
        name: the sampler's name, under which rows without a source are dropped.
        source_of: gives an answer's `source`, None when the row does not tell it.
        counted: counts `rows_with_unusable_prompt` and `scores_that_are_no_number`.

    Raises:
        InputError: no object in the column of completions has a key that was named.
    """
    found: dict[str, Found] = {}
    seen: dict[str, None] = {}
    for row in rows:
        prompt_id = _prompt_id(row, columns)
        if prompt_id is None:
            counted("rows_with_unusable_prompt", 1)
            continue
        slot = found.setdefault(prompt_id, Found())
        slot.rows += 1
        answers = _answers(row, columns)
        if isinstance(answers, str):
            slot.drops.append(Drop(prompt_id, "candidates", "bad_completions", answers, name))
            continue
        for answer in answers:
            seen.update(dict.fromkeys(answer))
            _add(slot, prompt_id, answer, columns, name, source_of(answer))
            score = answer.get(columns.score) if columns.score else None
            if score is not None and parse_score(score) is None:
                counted("scores_that_are_no_number", 1)
    for wanted in columns.of_completions():
        if seen and wanted not in seen:
            raise InputError(
                f"no object in the column {columns.completions!r} has the key {wanted!r}",
                valid=closest(wanted, seen),
            )
    return found


def _prompt_id(row: dict[str, Any], columns: Columns) -> str | None:
    if columns.prompt_id is not None:
        given = row[columns.prompt_id]
        return None if given is None or not str(given).strip() else str(given)
    messages = read_conversation(row[columns.prompt], columns.prompt_format)
    return None if isinstance(messages, Unusable) else prompt_id_of(messages)


def _answers(row: dict[str, Any], columns: Columns) -> list[dict[str, Any]] | str:
    """The answers in a row, one dict each, or why the row is refused."""
    if columns.completions is not None:
        listed = row[columns.completions]
        if listed is None:
            return []
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            return f"{columns.completions!r} is not a list of objects"
        return listed
    if isinstance(row[columns.response], list):
        return _parallel(row, columns)
    return [row]


def _parallel(row: dict[str, Any], columns: Columns) -> list[dict[str, Any]] | str:
    """A list of answers beside lists of their scores, models ...; what is no list holds for all of them."""
    length = len(row[columns.response])
    for name in columns.of_completions():
        if isinstance(row[name], list) and len(row[name]) != length:
            return f"{name!r} has {len(row[name])} values for {length} answers"
    return [
        {name: row[name][i] if isinstance(row[name], list) else row[name] for name in columns.of_completions()}
        for i in range(length)
    ]


def _add(slot: Found, prompt_id: str, answer: dict[str, Any], columns: Columns, name: str, source: str | None) -> None:
    def drop(reason: str, detail: str = "", index: int | None = None) -> None:
        slot.drops.append(Drop(prompt_id, "candidates", reason, detail, source or name, index))

    if source is None:
        return drop("missing_model", "the source is to be the model, and the row names none")
    given = answer.get(columns.index) if columns.index else None
    number = _whole(given)
    if columns.index and number is None:
        return drop("bad_index", f"the index is {given!r}")
    index = slot.number(source, number)
    if index is None:
        return drop("duplicate_candidate", "an earlier row has the same prompt, source and index", number)
    response = answer.get(columns.response)
    if response is None:
        return drop("missing_response", index=index)
    if not isinstance(response, str):
        return drop("bad_response", f"a text is expected, found {type(response).__name__}", index)
    cells = dict(_optional(answer, columns))
    finish = str(cells.get("finish_reason") or "").lower()
    slot.candidates.append(
        Candidate(
            prompt_id=prompt_id,
            source=source,
            index=index,
            response=response,
            model=None if cells.get("model") is None else str(cells["model"]),
            finish_reason=_FINISHED.get(finish, "unknown"),
            n_tokens=_whole(cells.get("n_tokens")),
            given_score=parse_score(cells.get("score")),
        )
    )
    return None


def _optional(answer: dict[str, Any], columns: Columns) -> Iterator[tuple[str, Any]]:
    for what in ("model", "score", "finish_reason", "n_tokens"):
        column = getattr(columns, what)
        if column is not None:
            yield what, answer.get(column)


def _whole(value: object) -> int | None:
    """A whole number of at least 0, also as text or as a float that is one (a column with gaps often is)."""
    number = parse_score(value)
    return int(number) if number is not None and 0 <= number < 2**53 and number == int(number) else None
