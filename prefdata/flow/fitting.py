"""Breaks lines between words where they are shown on a terminal. A pipe gets them as they are."""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TextIO

__all__ = ["fitted", "on_terminal"]

_NARROWEST = 40
_DEEPEST = 48
"""Widest indent of what a line is continued with."""
_GAP = re.compile(r"\S {2,}(?=\S)|^  \w+ (?=\[)")
_ARGUMENT = re.compile(r"""\s*(?:'[^']*'|"[^"]*"|[^\s'"])+""")
"""An argument of a command, with its quotes."""
_COMMAND = "Next:"
"""Label of a line that is to be copied into a shell."""
_WORD = re.compile(r"\s*\S+(?: -?[\d.,]+(?: %)?[,;:)\]]*(?=\s|$))?")
"""A word, with the number that follows it: a count stays beside what it counts."""


def on_terminal(text: str, stream: TextIO) -> list[str]:
    """Breaks the lines of a text at the width of the terminal that a stream is; any other stream gets them whole.

    Args:
        text: without control characters but ends of lines.
        stream: where it will be written.
    """
    lines = text.split("\n")
    if not stream.isatty():
        return lines
    width = max(_NARROWEST, shutil.get_terminal_size().columns)
    return [piece for line in lines for piece in fitted(line, width)]


def fitted(line: str, width: int) -> Iterator[str]:
    """Breaks a line between words; what follows begins below the text that the line's label or columns introduce.

    A command ends each line but its last with a backslash, so that a copy of it runs.
    A word that is longer than the width stays whole. Text without spaces of scripts whose letters are two columns
    wide may be broken anywhere.

    Args:
        line: without control characters.
        width: columns of the terminal.
    """
    if _cells(line) <= width:
        yield line
    elif line.startswith(_COMMAND):
        *pieces, last = _broken(line, _ARGUMENT.findall(line), width - 2)
        yield from (f"{piece} \\" for piece in pieces)
        yield last
    else:
        yield from _broken(line, _words(line), width)


def _broken(line: str, words: Iterable[str], width: int) -> Iterator[str]:
    indent = _hanging(line, width)
    start, used = "", 0
    for word in words:
        cells = _cells(word)
        if start.strip() and used + _cells(word.rstrip()) > width:
            yield start.rstrip()
            start, used = " " * indent, indent
            word, cells = word.lstrip(), _cells(word.lstrip())
        start, used = start + word, used + cells
    yield start.rstrip()


def _hanging(line: str, width: int) -> int:
    """Finds where a line's last part begins, or the second one of an indented line; gaps of two spaces are between."""
    own = line.startswith("  ")
    gaps = [match.end() for match in _GAP.finditer(line) if match.end() <= min(_DEEPEST, width // 2)]
    if gaps:
        return gaps[0] if own else gaps[-1]
    return len(line) - len(line.lstrip()) + 2


def _words(line: str) -> Iterator[str]:
    for match in _WORD.finditer(line):
        word = match[0]
        if any(_is_wide(letter) for letter in word):
            yield from re.findall(r"\s*[^\s]", word)
        else:
            yield word


def _cells(text: str) -> int:
    return len(text) if text.isascii() else sum(_width(letter) for letter in text)


def _width(letter: str) -> int:
    return 0 if unicodedata.combining(letter) else 2 if _is_wide(letter) else 1


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in ("W", "F")
