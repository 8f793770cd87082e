"""How lines look on a terminal: marks and headings in colour, and the next command as one that can be copied."""

from __future__ import annotations

import os
import shlex
import sys
from itertools import chain

import click

__all__ = ["coloured", "next_command", "uses_colour"]


def next_command(*words: object, **options: object) -> str:
    """Writes the line of the command to run next, quoted for a shell; options that are None are left out."""
    given = [(f"--{name.replace('_', '-')}", value) for name, value in options.items() if value is not None]
    return f"Next:    {shlex.join(map(str, ('prefdata', *words, *chain(*given))))}"


def uses_colour() -> bool:
    """Checks whether colours may be written: to a terminal, unless `NO_COLOR` is set (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(line: str) -> str:
    """Adds colour to a line that a mark begins, and to the next command. The mark says it without colour, too."""
    if line.startswith("! "):
        return click.style("!", fg="yellow", bold=True) + line[1:]
    label, colon, rest = line.partition(":")
    return click.style(label + colon, bold=True) + rest if colon and label in ("Next", "Dataset") else line
