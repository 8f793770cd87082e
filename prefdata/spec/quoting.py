"""`quoted`: content of a file in a message; of the user's files nothing is quoted while a stranger's recipe reads them.

Messages, drops and reports get copied, published and sent. A recipe from elsewhere that was granted a file must not
thereby put its content into them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from prefdata.errors import closest

__all__ = ["closest_of", "for_a_stranger", "quoted"]

_STRANGER: ContextVar[bool] = ContextVar("a recipe from elsewhere is built", default=False)
_HIDDEN = "(not shown: the recipe comes from elsewhere)"


@contextmanager
def for_a_stranger(foreign: bool) -> Iterator[None]:
    """Hides the content of files in messages within the block, if the recipe comes from elsewhere."""
    token = _STRANGER.set(foreign)
    try:
        yield
    finally:
        _STRANGER.reset(token)


def quoted(value: object, most: int = 80) -> str:
    """Gives the representation of a cell, a line or a name in a file, cut; or says that it is not shown."""
    return _HIDDEN if _STRANGER.get() else f"{value!r:.{most}}"


def closest_of(word: str, choices: Iterable[str]) -> str:
    """Lists names that are in a file, as `prefdata.errors.closest` does; or says that they are not shown."""
    return _HIDDEN if _STRANGER.get() else closest(word, choices)
