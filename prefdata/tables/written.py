"""Lists that a table holds as text: JSON is read, what Python or NumPy wrote is one clear error.

CSV has no lists, so programs write them as text. JSON can be read back. `str(list)` of Python and of NumPy can't be:
quotation marks, commas and line ends inside the texts are ambiguous there, and reading the text as it is would make one
answer of all answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from prefdata.errors import InputError
from prefdata.spec.quoting import quoted

__all__ = [
    "MAY_BE_WRITTEN",
    "TURNS_OF_PYTHON",
    "check_turns",
    "has_written_answers",
    "is_written",
    "read_list",
    "read_written",
]

_CALL = r"(?:\w+\.)*(?:array|list|tuple|set|frozenset|deque|tensor|Series|Index)\(\s*"
"""What stands before the brackets: `array(` of NumPy, `torch.tensor(`, ..."""
_ITEM = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+]?[\d.]+(?:e[-+]?\d+)?|(?:None|nan|null)\b)\s*"""
_BEGIN = re.compile(rf"\s*(?:\[|{_CALL}[\[({{]|\(\s*(?:{_ITEM},|(?:\w+\.)*\w+\()|\{{\s*{_ITEM}[,}}])")
"""How a list begins that is a text: JSON's, Python's lists, tuples and sets, and those of NumPy and PyTorch."""
_SHOWN = re.compile(r"\s*(?:\d+\s+\S|<\w+Array>\n)(?s:.*)\bdtype: \w+\s*\Z")
"""A column as pandas shows it."""
MAY_BE_WRITTEN = r"\A\s*(?:[\[({<]|(?:\w+\.)*\w+\(|\d+\s)"
"""Texts that may show a list (a pattern of RE2)."""
_OF_TEXTS = re.compile(r"""\s*\[\s*(?:['"\[({<\]]|None\b|null\b|(?:\w+\.)*\w+\()""")
"""How a list of texts, or of messages, begins, whoever wrote it."""
_TURN = re.compile(rf"""\s*(?:{_CALL})?[\[(]\s*\{{\s*['"](?:role|content|from|value)['"]\s*:""")
"""How a list of messages begins."""
TURNS_OF_PYTHON = (
    rf"""\A\s*(?:{_CALL})?[\[(]?\s*(?:dict\(|\{{)\s*(?:'(?:role|content|from|value)'\s*:|(?:role|content)\s*=)"""
    r"""(?s:.*)[\])}]\s*(?:,\s*dtype=\w+)?\)?\s*\z"""
)
"""A list of messages as Python and NumPy write it (a pattern of Polars)."""
_TURNS = re.compile(TURNS_OF_PYTHON.replace(r"\z", r"\Z"))
_HINT = (
    "write the table with frame.to_parquet(FILE) or frame.to_json(FILE, orient='records', lines=True), "
    "or the column with frame[NAME].map(json.dumps)"
)


def is_written(cell: object) -> bool:
    """Checks whether a cell is a text that shows a list."""
    if not isinstance(cell, str):
        return False
    return (cell.rstrip()[-1:] in ("]", ")", "}") and _BEGIN.match(cell) is not None) or _SHOWN.match(cell) is not None


def read_list(text: str) -> list[Any] | None:
    """Reads the JSON text of a list; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) else None


def read_written(cell: object, column: str, where: str) -> object:
    """Reads a cell of a column of lists: the JSON text of a list as the list, anything else as it is.

    Args:
        cell: the cell.
        column: its column, for messages.
        where: the table and the row, for messages.

    Raises:
        InputError: a list as Python or NumPy writes it.
    """
    if not isinstance(cell, str) or not is_written(cell):
        return cell
    value = read_list(cell)
    if value is None:
        raise _not_json(column, where, cell)
    return value


def check_turns(cell: object, column: str, where: str) -> None:
    """Refuses a conversation as Python or NumPy writes it, which would be read as what the user says.

    Args:
        cell: a cell of a column of prompts.
        column: its column, for messages.
        where: the table and the row, for messages.

    Raises:
        InputError: it is one.
    """
    if isinstance(cell, str) and _TURNS.match(cell):
        raise _not_json(column, where, cell)


def has_written_answers(cells: Iterable[tuple[object, object]]) -> bool:
    """Finds out whether a column of answers holds lists as texts; stops at the first that is none.

    One text in square brackets may be an answer. A column of answers holds lists where every text of it is a list of
    messages, or where every text is a list of texts, and every score beside it is a list too, as text or not.

    Args:
        cells: the answer and the score of each row; None where there is none.
    """
    some = False
    for answer, score in cells:
        blank = answer is None or (isinstance(answer, str) and not answer.strip())
        if not blank and not (isinstance(answer, str) and _shows_texts(answer)):
            return False
        is_talk = isinstance(answer, str) and _TURN.match(answer) is not None
        if not is_talk and not (score is None or score == "" or isinstance(score, list | tuple) or is_written(score)):
            return False
        if isinstance(answer, str) and not blank:
            value = read_list(answer)
            kind = dict if is_talk else str | list | None
            if value is not None and not all(isinstance(text, kind) for text in value):
                return False
            some = True
    return some


def _shows_texts(answer: str) -> bool:
    return is_written(answer) and (_OF_TEXTS.match(answer) is not None or not answer.lstrip().startswith("["))


def _not_json(column: str, where: str, cell: str) -> InputError:
    return InputError(
        f"{where}: the column {column!r} holds a list as Python or NumPy writes it, not as JSON: {quoted(cell)}",
        valid='a list, or its JSON text, for instance ["one answer", "another"]',
        hint=_HINT,
    )
