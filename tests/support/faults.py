"""Lets calls of the file system fail, wherever a build makes them."""

from __future__ import annotations

import fcntl
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import prefdata

_PACKAGE = str(Path(prefdata.__file__).parent)
_CALLS: tuple[tuple[object, str], ...] = (
    *((os, name) for name in ("open", "replace", "rename", "fsync", "mkdir", "unlink", "write")),
    (io, "open"),
    (fcntl, "flock"),
    (pq.ParquetWriter, "write_table"),
)


@dataclass
class Faults:
    """Counts the calls by their place in the code, and lets one of them fail."""

    place: str = ""
    """Function and line of the call that fails; empty to let all pass."""
    nth: int = 0
    """How many calls at that place go well before."""
    number: int = 0
    """The `errno`."""
    always: bool = False
    """Whether all later calls there fail, too."""
    seen: Counter[str] = field(default_factory=Counter)
    """Place → calls so far."""
    raised: int = 0

    def called(self, name: str) -> None:
        place = f"{name} at {_place()}"
        self.seen[place] += 1
        nth = self.seen[place] - 1
        if place == self.place and (nth == self.nth or (self.always and nth > self.nth)):
            self.raised += 1
            raise OSError(self.number, os.strerror(self.number))


def _place() -> str:
    """Finds the innermost line of prefdata that is being carried out."""
    frame: Any = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    if frame is None:
        return "elsewhere"
    return f"{Path(frame.f_code.co_filename).relative_to(_PACKAGE)}:{frame.f_lineno} ({frame.f_code.co_name})"


@contextmanager
def failing(faults: Faults, root: Path) -> Iterator[None]:
    """Watches the calls that touch what is below a folder, while the block runs."""

    def watched(owner: object, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if _counts(owner, name, arguments, options, root):
                faults.called(name)
            return real(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patched:
        for owner, name in _CALLS:
            patched.setattr(owner, name, watched(owner, name, getattr(owner, name)))
        yield


def _counts(owner: object, name: str, arguments: tuple[Any, ...], options: dict[str, Any], root: Path) -> bool:
    if name in ("flock", "write_table", "fsync", "write"):
        return _place_is_known()
    if options.get("dir_fd") is not None or isinstance(arguments[0], int):
        return False
    if owner is io and not {*str(options.get("mode", arguments[1] if len(arguments) > 1 else "r"))} & {*"wax+"}:
        return False
    return Path(os.path.abspath(arguments[0])).is_relative_to(root)  # noqa: PTH100 - it may not be there


def _place_is_known() -> bool:
    return _place() != "elsewhere"
