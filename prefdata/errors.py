"""Every error that prefdata raises on purpose.

::

    PrefdataError
    ├── UserError             one message, no traceback, exit code 2: the user can fix the input
    │   ├── RecipeError       a recipe that can't be loaded: wrong key, kind, value or file
    │   ├── InputError        a table, file or dataset that can't be read as what it should be
    │   ├── ModelError        a model or endpoint that can't be found, started or reached
    │   ├── MissingExtraError a package that an optional part needs is not installed
    │   ├── AuditError        a dataset that crosses a limit of its recipe's audit
    │   ├── BudgetError       the next request could cost more than a recipe's budget allows
    │   ├── PublishError      a dataset that can't be published, or a repository that can't take it
    │   └── StoreError        a folder that can't be written, is full, or is in use
    └── ConservationError     rows in ≠ rows out + drops: a bug of ours, shown with its traceback

A `UserError` always says four things: the value, why it is refused, what is valid, and what to do next.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable

__all__ = [
    "AuditError",
    "BudgetError",
    "ConservationError",
    "InputError",
    "MissingExtraError",
    "ModelError",
    "PrefdataError",
    "PublishError",
    "RecipeError",
    "StoreError",
    "UserError",
    "closest",
]


class PrefdataError(Exception):
    """Root of all errors that prefdata raises on purpose."""


class UserError(PrefdataError):
    """Something that the user can fix.

    Args:
        problem: the value and why it is refused, one sentence.
        valid: what would have been accepted; left out when there is nothing to list.
        hint: what to do next, preferably a command.
    """

    def __init__(self, problem: str, *, valid: str | None = None, hint: str | None = None) -> None:
        self.problem = problem
        self.valid = valid
        self.hint = hint
        super().__init__(problem, valid, hint)

    def __str__(self) -> str:
        lines = [self.problem]
        if self.valid:
            lines.append(f"  valid: {self.valid}")
        if self.hint:
            lines.append(f"  next:  {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments don't survive pickling by default, and workers pickle them.
        return (_rebuild, (type(self), self.problem, self.valid, self.hint))


class RecipeError(UserError):
    """A recipe that can't be loaded: wrong key, kind, value or file."""


class InputError(UserError):
    """A table, file or dataset that can't be read as what it should be."""


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


class AuditError(UserError):
    """A dataset that crosses a limit of its recipe's audit."""


class PublishError(UserError):
    """A dataset that can't be published, or a repository of the Hub that can't take it."""


class BudgetError(UserError):
    """The next request could cost more than a recipe's budget allows."""


class StoreError(UserError):
    """A folder that can't be written, is full, or is in use by another build."""


class ConservationError(PrefdataError):
    """Rows went missing or appeared between two stages: a bug, never the user's mistake."""


def closest(word: str, choices: Iterable[str]) -> str:
    """A comma-separated list of `choices`, with a suggestion in front when one is close to `word`."""
    names = list(choices)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    listed = ", ".join(names)
    return f"{listed} (did you mean {near[0]!r}?)" if near else listed


def _rebuild(kind: type[UserError], problem: str, valid: str | None, hint: str | None) -> UserError:
    return kind(problem, valid=valid, hint=hint)
