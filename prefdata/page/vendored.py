"""The libraries of others that the page holds: `vendor/libraries.json` lists them, with the hash of every file."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from prefdata.errors import StoreError
from prefdata.tables.documents import read_object

__all__ = ["FOLDER", "Library", "libraries", "listed"]

FOLDER = Path(__file__).parent / "vendor"
"""Holds the minified files, their licences, and the list."""


class Library(NamedTuple):
    """One library."""

    name: str
    version: str
    licence: str
    code: str
    notice: str
    """The text of its licence."""


def listed() -> list[dict[str, str]]:
    """Reads the list: `package`, `version`, `licence`, and of both files path in the package, name here, and hash."""
    rows: list[dict[str, str]] = read_object(FOLDER / "libraries.json")["libraries"]
    return rows


@cache
def libraries() -> tuple[Library, ...]:
    """Reads the libraries, in the order in which they are loaded.

    Raises:
        StoreError: a file is not the one that the list names.
    """
    found = []
    for row in listed():
        code, notice = (_checked(row[f"{what}_file"], row[f"{what}_sha256"]) for what in ("code", "notice"))
        found.append(Library(row["package"], row["version"], row["licence"], code, notice))
    return tuple(found)


def _checked(name: str, sha256: str) -> str:
    path = FOLDER / name
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StoreError(f"{str(path)!r} is not the file that prefdata was made with", hint="install prefdata again")
    return content.decode("utf-8")
