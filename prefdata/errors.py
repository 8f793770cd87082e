"""Every error that prefdata raises on purpose.

::

    PrefdataError
    ├── UserError             one message, no traceback, exit code 2: the user can fix the input
    │   ├── RecipeError       a recipe that can't be loaded: wrong key, kind, value or file
    │   ├── InputError        a table, file or dataset that can't be read as what it should be
    │   ├── ModelError        a model or endpoint that can't be found, started or reached
    │   ├── MissingExtraError a package that an optional part needs is not installed
    │   ├── NoPairsError      everything was read and nothing can be paired: exit code 1
    │   ├── AuditError        a dataset that crosses a limit of its recipe's audit
    │   ├── BudgetError       the next request could cost more than a recipe's budget allows
    │   ├── PublishError      a dataset that can't be published, or a repository that can't take it
    │   │   └── UnconfirmedError  published, or perhaps published, but not everything could be checked: exit code 3
    │   └── StoreError        a folder that can't be written, is full, or is in use
    └── ConservationError     rows in ≠ rows out + drops: a bug of ours, shown with its traceback

A `UserError` always says four things: the value, why it is refused, what is valid, and what to do next. Parts of
it come from elsewhere (names of columns, answers of servers), so its text is made safe for a terminal here.
"""

from __future__ import annotations

import difflib
import importlib.util
import itertools
import unicodedata
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "AuditError",
    "BudgetError",
    "ConservationError",
    "EngineError",
    "InputError",
    "MissingExtraError",
    "ModelError",
    "NoPairsError",
    "NoRowsError",
    "PrefdataError",
    "PublishError",
    "RecipeError",
    "StoreError",
    "UnconfirmedError",
    "UserError",
    "closest",
    "first_line",
    "printable",
]

_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories: control, format (bidirectional marks), surrogate, line and paragraph separator."""
_LINE = 2_000
"""Longest line of a message."""
_LINES = 60
"""Most lines of a message."""
_NAMES = 100
"""Most names in a list of what is valid."""
_LISTED = 1_500
"""Most characters of these names."""


class PrefdataError(Exception):
    """Root of all errors that prefdata raises on purpose."""


class UserError(PrefdataError):
    """Something that the user can fix.

    Args:
        problem: the value and why it is refused, one sentence; lines after the first are indented or begin with "- ".
        valid: what would have been accepted; left out when there is nothing to list.
        hint: what to do next, preferably a command.
    """

    exit_code: ClassVar[int] = 2
    """Exit code of a command that ends with this error."""

    def __init__(self, problem: str, *, valid: str | None = None, hint: str | None = None) -> None:
        self.problem = problem
        self.valid = valid
        self.hint = hint
        super().__init__(problem, valid, hint)

    def __str__(self) -> str:
        lines = _own_lines(self.problem)
        if len(lines) > _LINES:
            lines = [*lines[:_LINES], f"    ... {len(lines) - _LINES:,} more lines"]
        if self.valid:
            lines.append(f"  valid: {self.valid}")
        if self.hint:
            lines.append(f"  next:  {self.hint}")
        return "\n".join(printable(line, _LINE) for line in lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments don't survive pickling by default, and workers pickle them.
        return (_rebuild, (type(self), self.problem, self.valid, self.hint))


class RecipeError(UserError):
    """A recipe that can't be loaded: wrong key, kind, value or file."""


class InputError(UserError):
    """A table, file or dataset that can't be read as what it should be."""


class NoRowsError(InputError):
    """A table without a row, where one is needed."""


class ModelError(UserError):
    """A model or endpoint that can't be found, started or reached."""


class MissingExtraError(UserError):
    """A package that an optional part needs is not installed."""

    @classmethod
    def of(cls, needed_by: str, package: str, extra: str) -> MissingExtraError:
        """The error for `package`, which `pip install "prefdata[extra]"` would bring."""
        return cls(
            f"{needed_by} needs the package {package!r}, which is not installed",
            hint=f'pip install "prefdata[{extra}]"',
        )

    @classmethod
    def all_of(cls, needed_by: str, extra: str, *packages: str) -> list[UserError]:
        """One error for each of `packages` that is not installed; none is imported."""
        return [cls.of(needed_by, package, extra) for package in packages if importlib.util.find_spec(package) is None]


class NoPairsError(UserError):
    """A dataset without a single pair: everything was read, and nothing came out."""

    exit_code = 1


class AuditError(UserError):
    """A dataset that crosses a limit of its recipe's audit."""


class PublishError(UserError):
    """A dataset that can't be published, or a repository of the Hub that can't take it."""


class UnconfirmedError(PublishError):
    """A commit was made, or may have been made, and not everything about it could be checked."""

    exit_code = 3


class BudgetError(UserError):
    """The next request could cost more than a recipe's budget allows."""


class EngineError(UserError):
    """A cluster that can't be reached, or that lacks what a build needs."""


class StoreError(UserError):
    """A folder that can't be written, is full, or is in use by another build."""


class ConservationError(PrefdataError):
    """Rows went missing or appeared between two stages: a bug, never the user's mistake."""


def closest(word: str, choices: Iterable[str]) -> str:
    """A comma-separated list of `choices`, with a suggestion in front when one is close to `word`."""
    names = list(choices)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    # What follows the list must not be cut off with the end of a long line.
    fit = sum(end <= _LISTED for end in itertools.accumulate(len(name) + 2 for name in names[:_NAMES]))
    listed = ", ".join(names[:fit]) + (f" and {len(names) - fit:,} more" if len(names) > fit else "")
    return f"{listed} (did you mean {near[0]!r}?)" if near else listed


def first_line(error: BaseException) -> str:
    """Gives the first line of what an error of another package says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def printable(text: str, width: int = 300) -> str:
    """Shortens a text to one line of at most `width` characters, without control characters (line ends become ⏎).

    What remains can't move a terminal's cursor, change its colours, or turn the order of its characters.
    """
    flat = text[: width + 1].replace("\r\n", "⏎").replace("\n", "⏎").replace("\t", " ")
    safe = "".join("\ufffd" if unicodedata.category(character) in _UNPRINTABLE else character for character in flat)
    return safe if len(safe) <= width and len(text) <= width + 1 else f"{safe[: width - 1]}…"


def _own_lines(text: str) -> list[str]:
    """Cuts a text at the line ends that a message makes itself; one within a foreign value begins no line."""
    lines: list[str] = []
    for line in text.split("\n"):
        if lines and not line.startswith(("    ", "- ")):
            lines[-1] += f"\n{line}"
        else:
            lines.append(line)
    return lines


def _rebuild(kind: type[UserError], problem: str, valid: str | None, hint: str | None) -> UserError:
    return kind(problem, valid=valid, hint=hint)
