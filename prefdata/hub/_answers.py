"""Answers of a Hub that a push relies on, checked: a proxy or a login page may answer in its place, with status 200."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = [
    "JUNK",
    "HubCommit",
    "HubFile",
    "UndecidedError",
    "checked_content",
    "checked_sha",
    "checked_value",
    "git_digest",
]

_T = TypeVar("_T")
_SHA = re.compile(r"[0-9a-f]{40}")
JUNK = (KeyError, TypeError, AttributeError, IndexError, json.JSONDecodeError)
"""What the client and the functions here raise on an answer that is not one of the Hub's."""


class UndecidedError(Exception):
    """Raised when the branch has moved on, or the answer to a commit was lost.

    Args:
        why: the cause in a few words.
        wait: seconds that the Hub asks to wait; None where it names none.
        refused: whether the Hub has certainly not made the commit.
    """

    def __init__(self, why: str, wait: float | None = None, *, refused: bool = False) -> None:
        self.wait = wait
        self.refused = refused
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository, as the Hub lists it."""

    size: int
    digest: str
    """SHA-256 of the content of a large file (LFS, Xet); git's SHA-1 of a small one."""
    large: bool


@dataclass(frozen=True, slots=True)
class HubCommit:
    """A commit on the Hub."""

    sha: str
    pull_request: str | None = None
    """Ref of the pull request (`refs/pr/1`) where the commit is a proposal."""


def checked_value(value: Any, kind: type[_T]) -> _T:
    """Returns a value of an answer.

    Raises:
        TypeError: it has another type.
    """
    if not isinstance(value, kind):
        raise TypeError(type(value).__name__)
    return value


def checked_sha(value: Any) -> str:
    """Returns the SHA of a commit.

    Raises:
        TypeError: it is not one.
    """
    if _SHA.fullmatch(checked_value(value, str)) is None:
        raise TypeError("not a commit SHA")
    return str(value)


def checked_content(content: bytes, file: HubFile) -> bytes:
    """Returns the content of a file.

    Raises:
        TypeError: it is not the content that the Hub has listed.
    """
    digest = hashlib.sha256(content).hexdigest() if file.large else git_digest(content)
    if digest != file.digest:
        raise TypeError("not the content of the file")
    return content


def git_digest(content: bytes) -> str:
    """Computes Git's SHA-1 of a file's content, which the Hub lists for small files."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
