"""Lists that a table holds as text: JSON is read, what Python or NumPy wrote is one clear error.

CSV has no lists, so programs write them as text. JSON can be read back. `str(list)` of Python and of NumPy can't be:
quotation marks, commas and line ends inside the texts are ambiguous there, and reading the text as it is would make one
answer of all answers.
"""

from __future__ import annotations

import json
import re
from typing import Any

from prefdata.errors import InputError
from prefdata.spec.quoting import quoted

__all__ = [
    "MAY_BE_WRITTEN",
    "TURNS_OF_PYTHON",
    "check_turns",
    "is_written",
    "mixed_answers",
    "read_list",
    "read_written",
    "shows_texts",
    "shows_turns",
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
_OF_TEXTS = re.compile(r"""\s*\[\s*(?:['"\[({<\]]|(?:None|null|nan|NaN)\b|(?:\w+\.)*\w+\()""")
"""How a list of texts, or of messages, begins, whoever wrote it."""
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
    if isinstance(cell, str) and shows_turns(cell):
        raise _not_json(column, where, cell)


def mixed_answers(column: str, where: str, text: str, others: str) -> InputError:
    """Makes the error of a column of answers that are written in two ways.

    Args:
        column: the column.
        where: the table and the row.
        text: the answer in this row.
        others: what most of the column's answers are.
    """
    return InputError(
        f"{where}: the column {column!r} holds {others} elsewhere, and here {quoted(text)}",
        valid="answers that are written in one way in all rows",
        hint="leave the row out, or leave its answer empty",
    )


def shows_texts(text: str) -> bool:
    """Checks whether a text shows a list of texts, or of messages, whoever wrote it."""
    return is_written(text) and (_OF_TEXTS.match(text) is not None or not text.lstrip().startswith("["))


def shows_turns(text: str) -> bool:
    """Checks whether a text is a conversation as Python or NumPy writes it."""
    return _TURNS.match(text) is not None


def _not_json(column: str, where: str, cell: str) -> InputError:
    return InputError(
        f"{where}: the column {column!r} holds a list as Python or NumPy writes it, not as JSON: {quoted(cell)}",
        valid='a list, or its JSON text, for instance ["one answer", "another"]',
        hint=_HINT,
    )
