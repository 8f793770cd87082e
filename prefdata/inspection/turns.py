"""Reads cells as turns, of which prompts and answers are made."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from prefdata.errors import InputError
from prefdata.spec.quoting import quoted
from prefdata.tables.cells import SHAREGPT, as_turn, json_turns, says
from prefdata.tables.reasoning import parts_of

__all__ = [
    "Answer",
    "Turn",
    "answer_of",
    "asked_and_answered",
    "dialogue_of",
    "key_of",
    "one_answer",
    "parsed",
    "parted",
    "plain_of",
    "text_of",
    "turns_of",
]

_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
"""What stands before a turn in a dialogue that is one text."""
_ROLES = {"Human": "user", "Assistant": "assistant"}


class Answer(NamedTuple):
    """One answer."""

    text: str
    """Without its reasoning."""
    whole: str
    """As the row has it, with its reasoning: what a training reads."""
    thought: bool = False
    """Whether reasoning stands before it."""
    unfinished: bool = False
    """Whether the reasoning has no end, so that there is no answer."""


class Turn(NamedTuple):
    """A turn of a conversation, or a text of nobody."""

    role: str
    text: str
    thought: bool


def one_answer(cell: Any, column: str, where: str) -> Any:
    """Gives the cell of a side; of a list of one answer, that answer.

    Args:
        cell: as the row has it.
        column: its column, for messages.
        where: the table and the row, for messages.

    Raises:
        InputError: it holds several answers.
    """
    if not isinstance(cell, list) or not any(isinstance(item, str | list) for item in cell):
        return cell
    answers = [item for item in cell if item is not None]
    if len(answers) > 1:
        raise InputError(
            f"{where}: the column {column!r} holds several answers: {quoted(cell)}",
            valid="one answer: a text, or a list of messages",
            hint=f"make a row of each answer: frame.explode({column!r})",
        )
    return answers[0]


def parsed(cell: Any) -> Any:
    """Returns the messages that a text holds as JSON; any other cell as it is."""
    turns = json_turns(cell) if isinstance(cell, str) else None
    if turns is None:
        return cell
    return turns[0] if cell.lstrip().startswith("{") else turns


def turns_of(cell: Any) -> list[Turn] | None:
    """Reads a cell as turns; a text is one turn of no role. None where there is nothing."""
    cell = parsed(cell)
    if isinstance(cell, str):
        return [Turn("", cell, False)]
    items = [cell] if isinstance(cell, Mapping) else cell
    if not isinstance(items, list) or not items:
        return None
    turns = [_turn(item) for item in items]
    return [turn for turn in turns if turn is not None] or None


def _turn(item: Any) -> Turn | None:
    if isinstance(item, str):
        return Turn("", item, False)
    if not isinstance(item, Mapping):
        return None
    item = as_turn(dict(item))
    role, content = text_of(item.get("role")), item.get("content")
    if isinstance(content, list):
        content = "".join(text_of(part.get("text")) for part in content if isinstance(part, Mapping))
    thought = any(says(item.get(name)) for name in ("reasoning_content", "thinking", "reasoning"))
    return Turn(SHAREGPT.get(role, role), content if isinstance(content, str) else "", thought)


def text_of(cell: Any) -> str:
    """Gives a cell as text; empty where it says nothing."""
    return str(cell) if says(cell) else ""


def parted(chosen: list[Turn], rejected: list[Turn]) -> tuple[list[Turn], list[Turn], list[Turn], bool]:
    """Parts two conversations into what they share and what differs, at least the last turn."""
    most = min(len(chosen), len(rejected)) - 1
    common = next((n for n in range(most) if chosen[n] != rejected[n]), most)
    rests = (chosen[common:], rejected[common:])
    differ = any(turn.role == "user" for rest in rests for turn in rest)
    return chosen[:common], *rests, differ


def dialogue_of(text: str) -> list[Turn] | None:
    """Reads a text of turns (`Human: … Assistant: …`); None for any other text."""
    before, *found = _SPEAKER.split(text)
    if not found or ("Assistant" not in found[::2] and before.strip()):
        return None
    turns = [Turn(_ROLES[who], said.strip(), False) for who, said in zip(found[::2], found[1::2], strict=True)]
    asked = "user" if found[0] == "Assistant" else "system"
    return [Turn(asked, before.strip(), False), *turns] if before.strip() else turns


def asked_and_answered(turns: list[Turn]) -> tuple[list[Turn], list[Turn]]:
    """Parts a whole conversation after the last turn of the user."""
    asked = max((n for n, turn in enumerate(turns[:-1], 1) if turn.role == "user"), default=0)
    return turns[:asked], turns[asked:]


def answer_of(turns: Sequence[Turn] | None) -> Answer | None:
    """Makes one answer of its turns; None where there is none."""
    if not turns:
        return None
    text, thought = "\n\n".join(turn.text for turn in turns), any(turn.thought for turn in turns)
    parts = parts_of(text)
    return Answer(parts.answer or "", text, thought or parts.reasoned, unfinished=parts.answer is None)


def key_of(turns: Sequence[Turn] | None) -> str | None:
    """Gives a prompt as one text, equal for equal prompts; None where it shows nothing."""
    if not turns:
        return None
    plain = [(turn.role or "user", turn.text.strip()) for turn in turns]
    return json.dumps(plain, ensure_ascii=False, allow_nan=False) if any(text for _, text in plain) else None


def plain_of(turns: Sequence[Turn] | None) -> str:
    """Gives the texts of turns as one."""
    return "\n\n".join(turn.text for turn in turns or ())
