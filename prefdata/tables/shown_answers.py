"""What the texts in a column of answers show: one answer each, lists of answers, or conversations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prefdata.tables.cells import json_turns, says
from prefdata.tables.row_answers import is_talk
from prefdata.tables.written import is_written, read_list, shows_texts, shows_turns

__all__ = ["Shown", "answers_shown", "is_empty", "shows_list"]

_Kind: TypeAlias = Literal["texts", "lists", "turns"]
_LOOKED_AT = 64
"""Answers that decide what the others are; one that is something else is refused."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What most answers of a column are."""

    kind: _Kind
    """`lists` of answers, `turns` (conversations as JSON texts), or else `texts`."""
    in_text: bool
    """Whether the lists are texts."""


def answers_shown(cells: Iterable[tuple[object, object]]) -> Shown:
    """Finds out what a column of answers holds: what most of its first answers are.

    One text in square brackets may be an answer. It is a list where the score beside it is one too, as text or not, and
    without a score where all answers are lists.

    Args:
        cells: the answer and the score of each row; None where there is none.
    """
    kinds = Counter[str]()
    in_text = 0
    empty: tuple[object, object] | None = None
    for answer, score in cells:
        if is_empty(answer):
            empty = empty or (answer, score)
        elif says(answer):
            kind = _kind_of(answer, score)
            kinds[kind] += 1
            in_text += kind == "lists" and isinstance(answer, str)
            if kinds.total() == _LOOKED_AT:
                break
    for found in ("lists", "turns"):
        if 2 * kinds[found] > kinds.total():
            return Shown(found, 2 * in_text > kinds[found])
    if kinds["unscored"] and kinds["unscored"] == kinds.total():
        return Shown("lists", in_text=True)
    # An empty list shows what the others are where there is nothing else.
    if empty and not kinds and (isinstance(empty[0], list) or not _is_single(empty[1])):
        return Shown("lists", isinstance(empty[0], str))
    return Shown("texts", in_text=False)


def shows_list(text: str, score: object) -> bool:
    """Checks whether a text and the score beside it are both lists."""
    return (isinstance(score, list | tuple) or is_written(score)) and _kind_of(text, score) == "lists"


def is_empty(answer: object) -> bool:
    """Checks whether a cell is an empty list, or the JSON text of one."""
    return answer == [] or (isinstance(answer, str) and read_list(answer) == [])


def _is_single(score: object) -> bool:
    """Checks whether a score is one of a single answer."""
    return not (score is None or score == "" or isinstance(score, list | tuple) or is_written(score))


def _kind_of(answer: object, score: object) -> str:
    """Says what one answer is: of `_Kind`, or `unscored`, which is a list only among lists."""
    if isinstance(answer, list):
        return "texts" if is_talk(answer) else "lists"
    if not isinstance(answer, str):
        return "texts"
    if shows_turns(answer) or json_turns(answer) is not None:
        return "turns"
    if not shows_texts(answer):
        return "texts"
    value = read_list(answer)
    if value is not None and not all(isinstance(text, str | list | None) or text != text for text in value):
        return "texts"
    if score is None or score == "":
        return "unscored"
    return "texts" if _is_single(score) else "lists"
