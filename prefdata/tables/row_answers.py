"""The answers in one row of a table: one answer, lists side by side, or a list of objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefdata.errors import InputError
from prefdata.spec.quoting import quoted
from prefdata.tables.cells import as_turn, parse_score
from prefdata.tables.written import read_written

__all__ = ["ANSWER_ROLES", "answer_text", "answers_of_row", "check_said", "is_talk", "whole_number"]

ANSWER_ROLES = ("response", "score", "source", "model", "index", "finish_reason", "n_tokens")
"""What a column, or a key of an object, can say of one answer."""


def answers_of_row(
    row: Mapping[str, Any],
    named: Mapping[str, str],
    completions: str | None = None,
    *,
    written: bool = False,
    where: str = "the table",
) -> list[dict[str, Any]] | str:
    """Reads the answers in a row, one dict of roles each; a text says why there are none.

    Lists in several columns are read side by side, and must have one length; a value that is not a list holds for all
    answers of the row. Beside several answers, the JSON text of a list is the list. An answer that is a list of
    messages is the text of its last one, which the assistant says.

    Args:
        row: its cells, by column.
        named: role (of `ANSWER_ROLES`) → column, or key of an object in `completions`.
        completions: the column that holds a list of objects, one an answer.
        written: the column of the answers holds lists as texts.
        where: the table and the row, for messages.

    Raises:
        InputError: a list is written by Python or NumPy, not as JSON.
    """
    if completions is not None:
        objects = read_written(row[completions], completions, where)
        if objects is None:
            return []
        if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
            return f"{completions!r} is not a list of objects"
        return [_answer({role: item.get(key) for role, key in named.items()}) for item in objects]
    cells = {role: row[name] for role, name in named.items()}
    if written:
        cells["response"] = read_written(cells["response"], named["response"], where)
    texts = cells["response"]
    if not isinstance(texts, list) or is_talk(texts):
        return [_answer(cells)]
    for role, cell in cells.items():
        if role != "response":
            cells[role] = cell = read_written(cell, named[role], where)
        if isinstance(cell, list) and len(cell) != len(texts):
            return f"{named[role]!r} has {len(cell)} values for {len(texts)} answers"
    return [
        _answer({role: cell[number] if isinstance(cell, list) else cell for role, cell in cells.items()})
        for number in range(len(texts))
    ]


def _answer(cells: dict[str, Any]) -> dict[str, Any]:
    texts = cells.get("response")
    return {**cells, "response": answer_text(texts)} if isinstance(texts, list | dict) else cells


def is_talk(texts: list[Any]) -> bool:
    """Checks whether a list is one of messages."""
    return bool(texts) and all(isinstance(turn, dict) for turn in texts)


def answer_text(cell: object) -> object:
    """Returns the answer in a list of messages: the text of its last one, if the assistant says it.

    Anything else, one message of the assistant apart, is returned as it is.
    """
    last = cell[-1] if isinstance(cell, list) and is_talk(cell) else cell
    if not isinstance(last, dict):
        return cell
    turn = as_turn(last)
    return turn["content"] if turn.get("role") == "assistant" and isinstance(turn.get("content"), str) else cell


def check_said(answer: object, column: str, where: str) -> None:
    """Refuses a conversation that has no answer as its last turn, alone or in a list of them.

    Args:
        answer: what `answer_text` gives, or a list of these.
        column: its column, for messages.
        where: the table and the row, for messages.

    Raises:
        InputError: somebody else than the assistant says the last turn, or it is not a text.
    """
    for each in answer if isinstance(answer, list) and not is_talk(answer) else [answer]:
        turn = each[-1] if isinstance(each, list) and each else each
        if isinstance(turn, dict) and isinstance(who := as_turn(turn).get("role"), str):
            raise InputError(
                f"{where}: the column {column!r} holds a conversation whose last turn is not an answer: "
                + ("its content is not a text" if who == "assistant" else f"its role is {quoted(who)}"),
                valid="conversations that end in a text of the role assistant (ShareGPT: gpt)",
                hint="leave such rows out, or name the column of the answers: --columns response=NAME",
            )


def whole_number(value: object) -> int | None:
    """Returns a whole number from 0 to 2⁵³ - 1, also as text or as a float that is one; None for anything else."""
    number = parse_score(value)
    return int(number) if number is not None and 0 <= number < 2**53 and number == int(number) else None
