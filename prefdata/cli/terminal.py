"""How lines look on a terminal: broken between words, marks and headings in colour. A pipe gets them as they are."""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator

import click

__all__ = ["coloured", "fitted", "uses_colour", "width_of"]

_NARROWEST = 40
_DEEPEST = 48
"""Widest indent of what a line is continued with."""
_GAP = re.compile(r"\S {2,}(?=\S)")
_WORD = re.compile(r"\s*\S+(?: -?[\d.,]+(?: %)?[,;:)\]]*(?=\s|$))?")
"""A word, with the number that follows it: a count stays beside what it counts."""


def width_of() -> int | None:
    """Returns the columns of the terminal that stdout is; None of a pipe or file, whose lines are not broken."""
    return max(_NARROWEST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


def uses_colour() -> bool:
    """Checks whether colours may be written: to a terminal, unless `NO_COLOR` is set (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def fitted(line: str, width: int) -> Iterator[str]:
    """Breaks a line between words; what follows begins below the text that the line's label or columns introduce.

    A word that is longer than the width stays whole. Text without spaces of scripts whose letters are two columns
    wide may be broken anywhere.

    Args:
        line: without control characters.
        width: columns of the terminal.
    """
    if _cells(line) <= width:
        yield line
        return
    indent = _hanging(line, width)
    start, used = "", 0
    for word in _words(line):
        cells = _cells(word)
        if start.strip() and used + _cells(word.rstrip()) > width:
            yield start.rstrip()
            start, used = " " * indent, indent
            word, cells = word.lstrip(), _cells(word.lstrip())
        start, used = start + word, used + cells
    yield start.rstrip()


def coloured(line: str) -> str:
    """Adds colour to a line that a mark begins, and to the next command. The mark says it without colour, too."""
    if line.startswith("! "):
        return click.style("!", fg="yellow", bold=True) + line[1:]
    label, colon, rest = line.partition(":")
    return click.style(label + colon, bold=True) + rest if colon and label in ("Next", "Dataset") else line


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
