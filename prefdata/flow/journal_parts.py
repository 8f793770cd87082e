"""`JournalParts`: a journal of this machine that is on an object store, where nothing can be appended, as parts.

A part is `<journal>.parts/000001-000000004096`: the number of a generation, and where the part begins in its journal. A
generation begins with a part that holds all that the journal held; the newest one counts, and older ones are removed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from prefdata.flow.disk import make_folder, write_bytes
from prefdata.hub import ObjectStore

__all__ = ["JournalParts", "journal_of"]

_PART = re.compile(r"(.+\.jsonl)\.parts/(\d{6})-(\d{12})")
_MOST = 100
"""Parts after which all is put as one again."""


def journal_of(name: str) -> str | None:
    """Gives the name of the journal that an object is a part of; None where it is none."""
    match = _PART.fullmatch(name)
    return match[1] if match else None


class JournalParts:
    """The parts of one journal.

    Args:
        store: where they are.
        path: the journal on this machine.
        name: its name on the store.
        parts: names of the parts that are there.
    """

    def __init__(self, store: ObjectStore, path: Path, name: str, parts: Iterable[str] = ()) -> None:
        self._store, self._path, self._name = store, path, name
        self._parts = sorted(parts)
        self._generation = max((_place(part)[0] for part in self._parts), default=0)
        self._flushed = 0
        """Bytes of the journal that are on the store."""
        self._inode = -1
        """Of the file whose bytes these are; another one begins a new generation."""

    def fetch(self) -> None:
        """Adds the lines of the store to the journal of this machine; of two about one thing, the store's counts.

        Raises:
            StoreError: a part can't be read, or the journal not be written.
        """
        stored = self._stored()
        local = self._path.read_bytes() if self._path.exists() else b""
        ours, theirs = _lines(local), _lines(stored)
        known = {*theirs}
        if not known <= {*ours}:
            local = b"".join([line for line in ours if line not in known] + theirs)
            make_folder(self._path.parent)
            write_bytes(self._path, local)
        if self._path.exists() and local.startswith(stored):
            self._flushed, self._inode = len(stored), self._path.stat().st_ino

    def flush(self) -> None:
        """Puts the whole lines that are new on the store.

        Raises:
            StoreError: they can't be written.
        """
        try:
            with self._path.open("rb") as file:
                state = os.fstat(file.fileno())
                anew = state.st_ino != self._inode or state.st_size < self._flushed or len(self._parts) > _MOST
                begin = 0 if anew else self._flushed
                file.seek(begin)
                text = file.read()
        except FileNotFoundError:
            return
        text = text[: text.rfind(b"\n") + 1]
        if not text:
            return
        self._generation += anew
        part = f"{self._name}.parts/{self._generation:06d}-{begin:012d}"
        self._store.put_bytes({part: text})
        self._flushed, self._inode = begin + len(text), state.st_ino
        if anew:
            self._store.delete(self._parts)
            self._parts = []
        self._parts.append(part)

    def remove(self) -> None:
        """Removes the parts."""
        self._store.delete(self._parts)
        self._parts = []

    def _stored(self) -> bytes:
        """Puts the parts of the newest generation together; what follows a part that is missing is left out."""
        text = b""
        for part in self._parts:
            generation, begin = _place(part)
            if generation == self._generation and begin == len(text):
                text += self._store.read(part) or b""
        return text


def _place(part: str) -> tuple[int, int]:
    match = _PART.fullmatch(part)
    assert match is not None
    return int(match[2]), int(match[3])


def _lines(text: bytes) -> list[bytes]:
    return [line + b"\n" for line in text.split(b"\n")[:-1]]
