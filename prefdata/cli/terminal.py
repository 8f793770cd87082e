"""How lines look on a terminal: marks and headings in colour. A pipe gets them as they are."""

from __future__ import annotations

import os
import sys

import click

__all__ = ["coloured", "uses_colour"]


def uses_colour() -> bool:
    """Checks whether colours may be written: to a terminal, unless `NO_COLOR` is set (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(line: str) -> str:
    """Adds colour to a line that a mark begins, and to the next command. The mark says it without colour, too."""
    if line.startswith("! "):
        return click.style("!", fg="yellow", bold=True) + line[1:]
    label, colon, rest = line.partition(":")
    return click.style(label + colon, bold=True) + rest if colon and label in ("Next", "Dataset") else line
