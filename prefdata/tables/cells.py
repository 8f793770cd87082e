"""Reads a cell of a table: as the conversation that a model is to answer, or as a score.

The prompts and the recorded answers of the same table must get the same prompt ids, so both rooms read through here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from prefdata.records import Message, as_messages, is_score
from prefdata.spec.quoting import quoted
from prefdata.tables.written import is_written, read_list

__all__ = [
    "ANSWERABLE",
    "BLANK",
    "ROLES_OF_TURNS",
    "SHAREGPT",
    "PromptFormat",
    "Unusable",
    "as_turn",
    "json_turns",
    "parse_score",
    "parse_truth",
    "read_conversation",
    "read_turns",
    "says",
]

PromptFormat: TypeAlias = Literal["auto", "text", "messages"]
"""How a text cell is read: as one user turn, as JSON messages, or `auto`: as messages exactly when it is a JSON list
of objects that all have `role` and `content`, or `from` and `value` (ShareGPT), or one such object."""

_TRUTHS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "1.0"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "0.0"), False),
}
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)

BLANK = r"\A[\s\x1c-\x1f]*\z"
"""Texts of white space as Python defines it; Rust's `\\s` alone leaves out U+001C to U+001F."""
ROLES_OF_TURNS = ("system", "user", "assistant", "tool")
ANSWERABLE = ("user", "tool")
SHAREGPT = {
    "human": "user",
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard"), "assistant"),
    "user": "user",
    "assistant": "assistant",
    "system": "system",
}
"""Who speaks in turns of `from` and `value`."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a cell is no prompt."""

    reason: str
    """`missing`, `blank`, `bad_messages`, `unsupported_message`, `no_user_turn` or `ends_in_` and the last role."""
    detail: str = ""


def says(cell: object) -> bool:
    """Checks whether a cell holds anything; null, NaN, blank texts and empty lists do not."""
    return bool(cell.strip()) if isinstance(cell, str) else cell is not None and cell == cell and cell != []


def read_conversation(cell: object, how: PromptFormat = "auto") -> tuple[Message, ...] | Unusable:
    """The messages of a prompt cell: a text, a message, a list of messages, or the JSON text of such a list.

    Messages keep exactly `role` and `content`. One that holds more (tool calls, names, images) is refused, since the
    rest would be lost in silence; keys without a value, with which Arrow pads rows, are nothing.
    """
    if cell is None:
        return Unusable("missing")
    if isinstance(cell, str):
        if not cell.strip():
            return Unusable("blank")
        parsed = None if how == "text" else json_turns(cell)
        if parsed is None:
            if how == "messages":
                return Unusable("bad_messages", "not the JSON text of a list of messages")
            return _storable(as_messages(cell))
        cell = parsed
    if isinstance(cell, dict):
        cell = [cell]
    if not isinstance(cell, list | tuple):
        return Unusable("bad_messages", f"a prompt is a text or a list of messages, not {type(cell).__name__}")
    if how == "text":
        return Unusable("bad_messages", "a list, where the recipe says that prompts are text")
    return _messages(list(cell))


def read_turns(cell: object) -> tuple[Message, ...] | Unusable:
    """Reads the turns of a finished conversation: a list of messages, or its JSON text; another text is one turn.

    Returns:
        At least one turn. A plain text is the assistant's. Reasons: `missing_response`, `bad_messages`,
        `unsupported_message`.
    """
    if cell is None or (isinstance(cell, list | tuple) and not cell):
        return Unusable("missing_response")
    if isinstance(cell, str):
        parsed = json_turns(cell)
        if parsed is None:
            return _storable((Message(role="assistant", content=cell),))
        cell = parsed
    if not isinstance(cell, list | tuple):
        return Unusable("bad_messages", f"a text or a list of messages is expected, found {type(cell).__name__}")
    return _read_messages(list(cell))


def json_turns(text: str) -> list[Any] | None:
    """Reads the JSON text of a list of turns, or of one turn; None for any other text."""
    one = text.lstrip().startswith("{")
    if not one and not text.lstrip().startswith("["):
        return None
    value = read_list(f"[{text}]" if one else text)
    if one and value is not None and len(value) != 1:
        return None
    turns = value and all(
        isinstance(turn, dict) and ({"role", "content"} <= turn.keys() or {"from", "value"} <= turn.keys())
        for turn in value
    )
    return value if turns else None


def as_turn(turn: dict[str, Any]) -> dict[str, Any]:
    """Gives a turn of `from` and `value` (ShareGPT) as one of `role` and `content`; any other turn as it is."""
    if not (isinstance(turn.get("from"), str) and turn.get("role") is None and turn.get("content") is None):
        return turn
    who = turn["from"]
    rest = {key: value for key, value in turn.items() if key not in ("from", "value", "role", "content")}
    return {**rest, "role": SHAREGPT.get(who, who), "content": turn.get("value")}


def _messages(turns: list[Any]) -> tuple[Message, ...] | Unusable:
    if not turns:
        return Unusable("blank", "an empty list of messages")
    messages = _read_messages(turns)
    if isinstance(messages, Unusable):
        return messages
    last = messages[-1]
    if last["role"] not in ANSWERABLE:
        return Unusable(f"ends_in_{last['role']}", "there is no turn to answer")
    if not last["content"].strip():
        return Unusable("blank", "the turn to be answered is blank")
    if all(message["role"] != "user" for message in messages):
        return Unusable("no_user_turn")
    return messages


def _read_messages(turns: list[Any]) -> tuple[Message, ...] | Unusable:
    messages: list[Message] = []
    for number, turn in enumerate(turns, 1):
        message = _message(turn)
        if isinstance(message, Unusable):
            return Unusable(message.reason, f"message {number}: {message.detail}")
        messages.append(message)
    return _storable(tuple(messages))


def _message(turn: object) -> Message | Unusable:
    if not isinstance(turn, dict):
        return Unusable("bad_messages", f"an object is expected, found {type(turn).__name__}")
    turn = as_turn(turn)
    extra = sorted(str(key) for key, value in turn.items() if key not in ("role", "content") and _holds(value))
    if extra:
        return Unusable("unsupported_message", f"has {', '.join(extra)} besides role and content")
    role, content = turn.get("role"), turn.get("content")
    if role not in ROLES_OF_TURNS:
        return Unusable("bad_messages", f"the role is {quoted(role)}, valid: {', '.join(ROLES_OF_TURNS)}")
    if isinstance(content, list | dict):
        return Unusable("unsupported_message", "the content is not plain text")
    if not isinstance(content, str):
        return Unusable("bad_messages", f"the content is {type(content).__name__}, not text")
    return Message(role=role, content=content)


def _holds(value: object) -> bool:
    return value is not None and value == value and value not in ("", [], {}, ())


def _storable(messages: tuple[Message, ...]) -> tuple[Message, ...] | Unusable:
    try:
        for message in messages:
            message["content"].encode()
    except UnicodeEncodeError as error:
        return Unusable("bad_messages", f"half of a surrogate pair at character {error.start + 1}")
    return messages


def parse_score(value: object) -> float | None:
    """The finite number that a cell holds, or None when it holds none.

    Numbers, decimal texts (sign, exponent and surrounding white space allowed) and lists of exactly one of these, also
    as JSON text, are scores. Booleans, NaN, infinities, `"N/A"`, empty and longer lists are not: they would otherwise
    become a rank.
    """
    if isinstance(value, list | tuple):
        return None if len(value) != 1 or isinstance(value[0], list | tuple) else parse_score(value[0])
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        listed = read_list(value) if is_written(value) else None
        return None if listed is None else parse_score(listed)
    try:
        number = float(value)
    except (OverflowError, ValueError):
        # An integer above 1.8e308, or a signalling NaN of `Decimal`.
        return None
    return number if is_score(number) else None


def parse_truth(value: object) -> bool | None:
    """Reads a truth value, also as 0 or 1 or as text (`True`, `no`); None for anything else."""
    return _TRUTHS.get(str(value).strip().lower()) if isinstance(value, bool | int | float | str) else None
