"""The answers in one row of a table: one answer, lists side by side, or a list of objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefdata.errors import InputError
from prefdata.records import Message
from prefdata.spec.quoting import quoted
from prefdata.tables.cells import Unusable, as_turn, json_turns, parse_score, read_conversation, read_turns
from prefdata.tables.written import mixed_answers, read_written

__all__ = [
    "ANSWER_ROLES",
    "answer_text",
    "answers_of_row",
    "check_asked",
    "check_said",
    "is_talk",
    "lists_apart",
    "whole_number",
]

ANSWER_ROLES = ("response", "score", "source", "model", "index", "finish_reason", "n_tokens")
"""What a column, or a key of an object, can say of one answer."""
_BESIDE_TEXT = ("tool_calls", "function_call", "audio", "images")
"""Keys of a message that say more than its text."""


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
        InputError: a list is written by Python or NumPy, not as JSON; or an answer is none, where others are lists.
    """
    if completions is not None:
        objects = read_written(row[completions], completions, where)
        if objects is None:
            return []
        if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
            return f"{completions!r} is not a list of objects"
        return [_answer({role: item.get(key) for role, key in named.items()}) for item in objects]
    cells = {role: row[name] for role, name in named.items()}
    if written and isinstance(text := cells["response"], str) and text.strip():
        read = read_written(text, named["response"], where)
        cells["response"] = read = json_turns(text) if isinstance(read, str) else read
        if read is None:
            raise mixed_answers(named["response"], where, text, "lists")
    texts = cells["response"]
    if not isinstance(texts, list) or is_talk(texts):
        return [_answer(cells)]
    for role, cell in cells.items():
        if role != "response":
            cells[role] = read_written(cell, named[role], where)
    if apart := lists_apart(cells, named):
        return "; ".join(apart.values())
    return [
        _answer({role: cell[number] if isinstance(cell, list) else cell for role, cell in cells.items()})
        for number in range(len(texts))
    ]


def lists_apart(cells: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, str]:
    """Says of each list beside the answers whose length is not theirs how long it is.

    Args:
        cells: role → cell; `response` is a list of answers.
        named: role → column, for messages.
    """
    lists = {role: cell for role in ANSWER_ROLES if isinstance(cell := cells.get(role), list)}
    count = len(lists["response"])
    return {
        role: f"{named[role]!r} has {len(cell)} values for {count} answers"
        for role, cell in lists.items()
        if len(cell) != count
    }


def _answer(cells: dict[str, Any]) -> dict[str, Any]:
    return {**cells, "response": answer_text(cells.get("response"))}


def is_talk(texts: list[Any]) -> bool:
    """Checks whether a list is one of messages."""
    return bool(texts) and all(isinstance(turn, dict) for turn in texts)


def answer_text(cell: object) -> object:
    """Returns the answer in a list of messages: the text of its last one, if the assistant says it.

    An empty list and NaN, which pandas writes for a cell without a value, are None. Anything else, one message of the
    assistant apart, is returned as it is.
    """
    if cell == [] or (isinstance(cell, float) and cell != cell):
        return None
    last = cell[-1] if isinstance(cell, list) and is_talk(cell) else cell
    if not isinstance(last, dict):
        return cell
    turn = as_turn(last)
    is_text = isinstance(turn.get("content"), str) and not any(map(turn.get, _BESIDE_TEXT))
    return turn["content"] if turn.get("role") == "assistant" and is_text else cell


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
            beside = [key for key in _BESIDE_TEXT if turn.get(key)]
            said = f"it has {', '.join(beside)}" if beside else "its content is not a text"
            raise InputError(
                f"{where}: the column {column!r} holds a conversation whose last turn is not an answer: "
                + (said if who == "assistant" else f"its role is {quoted(who)}"),
                valid="conversations that end in a text of the role assistant (ShareGPT: gpt)",
                hint="leave such rows out, or name the column of the answers: --columns response=NAME",
            )


def check_asked(asked: Sequence[list[Any]], prompt: object, column: str, prompt_column: str, where: str) -> None:
    """Refuses answers in conversations whose turns before them are not the prompt, and would be lost.

    Args:
        asked: the turns before each answer.
        prompt: the cell of the prompt.
        column: the column of the answers, for messages.
        prompt_column: that of the prompts.
        where: the table and the row, for messages.

    Raises:
        InputError: they differ, white space around a text apart.
    """
    read = read_conversation(prompt)
    if isinstance(read, Unusable):
        # Its row is dropped, with this reason.
        return
    said = _stripped(read)
    for turns in asked:
        before = read_turns(turns)
        if not isinstance(before, Unusable) and _stripped(before) == said:
            continue
        raise InputError(
            f"{where}: the turns before the answer in the column {column!r} are not the prompt in {prompt_column!r}",
            valid="conversations that begin with the prompt, or answers alone",
            hint=f"read these turns as the prompt: --columns prompt={column},response={column}",
        )


def _stripped(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"].strip()) for message in messages]


def whole_number(value: object) -> int | None:
    """Returns a whole number from 0 to 2⁵³ - 1, also as text or as a float that is one; None for anything else."""
    number = parse_score(value)
    return int(number) if number is not None and 0 <= number < 2**53 and number == int(number) else None
