"""`AnswerStore`: finished answers and scores that other builds may use, whatever became of the build they come from.

::

    builds/.cache/prefdata-answers/
      <fingerprint of a part and its options>/   its shelf
        4711-8d1f0c22.jsonl                      what one process has kept

A line is `<crc32 of the rest> <key> <JSON>`; the first of a file has the key `packages`, and says what made the others.
Only the process that made a file appends to it, so any number of builds can write at once; a line that a kill has torn
is the last of its file. What is read is not trusted: a damaged line is passed over, and who asked for a result checks
it as it would check a new one.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from prefdata.errors import InputError
from prefdata.flow.disk import refuse_address
from prefdata.flow.journal import guarded_line, text_of_line
from prefdata.flow.progress import say
from prefdata.flow.stage_files import note_versions
from prefdata.flow.versions import are_packages, packages
from prefdata.spec import JSON, Store, canonical_json, fingerprint
from prefdata.tables.own_files import append_only, read_only

__all__ = ["FOLDER", "AnswerStore", "StageStore", "open_store"]

FOLDER = "prefdata-answers"
"""Name of the folder in which everything is."""
_FILE = re.compile(r"\d{1,10}-[0-9a-f]{8}\.jsonl")
_KEY = re.compile(rb"[0-9a-f]{64}")
_MOST_BYTES = 1 << 26
"""Longest line that is read."""
_HEAD = b"packages"


@dataclass
class StageStore(Store):
    """The store as one stage sees it: says what was damaged, and notes in the stage's folder what made its results."""

    root: Path
    """The store's folder."""
    foreign: bool
    """Whether files of other users are read."""
    stage: Path | None = None
    """The stage's folder; None changes no file."""
    _noted: list[dict[str, str]] = field(default_factory=list)
    _shelves: list[_FileShelf] = field(default_factory=list)

    def shelf(self, what: JSON) -> _FileShelf:
        """Gives the shelf of a part: see `prefdata.spec.Store.shelf`."""
        shelf = _FileShelf(self, self.root / FOLDER / fingerprint([1, what])[:32])
        self._shelves.append(shelf)
        return shelf

    def close(self) -> None:
        """Closes what this process has written."""
        for shelf in self._shelves:
            shelf.close()

    def used(self, made_with: dict[str, str]) -> None:
        """Notes which versions made a result that is used."""
        if made_with not in self._noted:
            self._noted.append(made_with)
            if self.stage is not None:
                note_versions(self.stage, made_with)


@dataclass(frozen=True)
class AnswerStore:
    """The store of a build."""

    root: Path
    foreign: bool = False
    """Whether files of other users are read: where the user named the folder."""

    def of_stage(self, folder: Path | None) -> StageStore:
        """Gives the store for one stage.

        Args:
            folder: the stage's; None for a look that changes no file.
        """
        return StageStore(self.root, self.foreign, folder)


def open_store(build: Path, reuse: str | Path | bool) -> AnswerStore | None:
    """Gives the store of a build.

    Args:
        build: the build folder.
        reuse: True takes the folder `.cache` beside it, False none; or another folder.

    Raises:
        InputError: the folder is a file.
        StoreError: it is an address.
    """
    if reuse is False:
        return None
    if reuse is True:
        return AnswerStore(build.absolute().parent / ".cache")
    root = Path(reuse)
    refuse_address(root)
    if root.exists() and not root.is_dir():
        raise InputError(
            f"{str(root)!r} is a file",
            valid="a folder that holds what earlier builds were answered, or a new one",
            hint="--no-reuse asks everything anew",
        )
    return AnswerStore(root, foreign=True)


class _FileShelf:
    """Finds the results of one part in the files of all processes, and appends to a file of this one.

    Args:
        store: whose shelf it is.
        folder: of the shelf, which need not be there.
    """

    def __init__(self, store: StageStore, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._files: list[tuple[Path, dict[str, str]]] = []
        """Each file with the versions that made what it holds."""
        self._places: dict[bytes, tuple[int, int]] = {}
        """Key → number of the file, and where its line begins."""
        self._out: int | None = None
        self._closed = store.stage is None
        damaged = 0
        for path in _files_of(folder):
            damaged += self._index(path)
        if damaged:
            say(
                f"{folder}: {damaged:,} damaged {'line is' if damaged == 1 else 'lines are'} passed over; "
                f"what {'it' if damaged == 1 else 'they'} held is asked again, and nothing else"
            )

    def get(self, key: str) -> str | None:
        """See `prefdata.spec.Shelf.get`."""
        number, begin = self._places.get(bytes.fromhex(key), (-1, 0))
        if number < 0:
            return None
        path, made_with = self._files[number]
        file = self._open(path)
        if file is None:
            return None
        with file:
            file.seek(begin)
            text = text_of_line(file.readline(_MOST_BYTES))
        name, _, value = (text or b"").partition(b" ")
        if name != key.encode():
            return None
        try:
            found = value.decode()
        except UnicodeDecodeError:
            return None
        self._store.used(made_with)
        return found

    def put(self, key: str, text: str) -> None:
        """See `prefdata.spec.Shelf.put`. A store that can't be written is said once, and stops no build."""
        if self._closed:
            return
        try:
            if self._out is None:
                self._out = self._create()
            _write(self._out, guarded_line(f"{key} {text}".encode()))
        except OSError as error:
            # A line may be torn now: nothing may follow it.
            self._closed = True
            say(f"{self._folder}: what is asked is not kept for other builds ({error.strerror or error})")

    def __len__(self) -> int:
        """See `prefdata.spec.Shelf`."""
        return len(self._places)

    def _create(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        out = append_only(self._folder / f"{os.getpid()}-{secrets.token_hex(4)}.jsonl")
        _write(out, guarded_line(_HEAD + b" " + canonical_json(packages()).encode()))
        return out

    def close(self) -> None:
        """Closes the file of this process."""
        self._closed = True
        if self._out is not None:
            os.close(self._out)
            self._out = None

    def _open(self, path: Path) -> IO[bytes] | None:
        """Opens a file to read it; None where it is a link, a device, another user's, or gone."""
        try:
            file = os.fdopen(read_only(path), "rb")
        except OSError:
            return None
        state = os.fstat(file.fileno())
        if stat.S_ISREG(state.st_mode) and (self._store.foreign or state.st_uid == os.geteuid()):
            return file
        file.close()
        return None

    def _index(self, path: Path) -> int:
        """Finds the lines of a file; returns how many of them are damaged."""
        file = self._open(path)
        if file is None:
            return 0
        damaged, begin, number = 0, 0, len(self._files)
        with file:
            made_with = _packages_of(file.readline(_MOST_BYTES))
            if made_with is None:
                return 1 if file.tell() else 0
            self._files.append((path, made_with))
            begin = file.tell()
            for line in _lines(file):
                text = text_of_line(line)
                name, space, _ = (text or b"").partition(b" ")
                if space and _KEY.fullmatch(name):
                    self._places.setdefault(bytes.fromhex(name.decode()), (number, begin))
                elif line.endswith(b"\n"):
                    damaged += 1
                begin += len(line)
        return damaged


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yields the lines of a file; one that is longer than any of ours ends it."""
    while line := file.readline(_MOST_BYTES):
        yield line
        if len(line) == _MOST_BYTES:
            return


def _packages_of(line: bytes) -> dict[str, str] | None:
    """Reads the first line of a file; None where it says nothing of versions."""
    name, _, value = (text_of_line(line) or b"").partition(b" ")
    try:
        made_with = json.loads(value) if name == _HEAD else None
    except (ValueError, RecursionError):
        return None
    return made_with if are_packages(made_with) else None


def _files_of(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if _FILE.fullmatch(path.name))
    except OSError:
        return []


def _write(out: int, line: bytes) -> None:
    while line:
        line = line[os.write(out, line) :]
