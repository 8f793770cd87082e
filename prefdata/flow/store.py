"""The build folder: stage folders, shards that appear at once or not at all, journals, and who may write.

::

    BUILD/
      prefdata.lock.json
      spending.jsonl                     what endpoints were paid, if any was
      stages/prompts-<key>-256/            shard-00000.parquet  drops-00000.parquet  stage.json
      stages/candidates-policy-<key>-256/  journal-00003.jsonl while shard 3 is under way
      stages/scores-<key>-256/  stages/pairs-<key>-256/
      dataset/                           what is published
"""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from prefdata.errors import StoreError
from prefdata.spec import JSON, canonical_json

__all__ = [
    "BuildFolder",
    "Journal",
    "StageFolder",
    "check_replaceable",
    "replace_folder",
    "store_errors",
    "write_atomically",
    "write_json",
]

_MEANING = {
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again: it goes on where it stopped"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EFBIG: ("a file would be larger than this system allows", "raise the limit, then run the command again"),
    errno.EACCES: ("the folder can't be written by this user", "choose another folder with --out"),
    errno.EPERM: ("the folder can't be written by this user", "choose another folder with --out"),
    errno.EROFS: ("the file system is read-only", "choose another folder with --out"),
    errno.ENOENT: ("its folder can't be made, or was deleted meanwhile", "choose another folder with --out"),
    errno.ENOTDIR: ("a part of the path is a file", "choose another folder with --out"),
    errno.ENAMETOOLONG: ("the path is longer than this system allows", "choose another folder with --out"),
    errno.ELOOP: ("its links lead in a circle", "choose another folder with --out"),
    errno.EEXIST: ("there is a file of that name", "choose another folder with --out"),
}


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turns what the file system refuses into a `StoreError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _MEANING:
            raise
        why, hint = _MEANING[error.errno]
        raise StoreError(f"{str(path)!r} can't be written: {why}", hint=hint) from error


def _sync(path: Path) -> None:
    """Makes a file's content, or the names in a folder, safe against a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a file beside `path`, then puts it there at once, safe against a crash and a power cut.

    Raises:
        StoreError: the folder can't be written or is full. What was there before is untouched.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with store_errors(path):
        try:
            write(beside)
            _sync(beside)
            beside.replace(path)
            _sync(path.parent)
        finally:
            beside.unlink(missing_ok=True)


def write_json(path: Path, value: JSON) -> None:
    """Writes a value as indented JSON with sorted keys, atomically."""
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n"

    def write(beside: Path) -> None:
        beside.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Lets `fill` write into an empty folder beside `folder`, then puts that in its place.

    Only a folder that holds a dataset of ours, or nothing, is replaced.

    Raises:
        StoreError: the parent can't be written or is full. What was there before is untouched.
    """
    folder = folder.absolute()
    check_replaceable(folder)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    with store_errors(folder):
        _mend(folder)
        try:
            beside.mkdir(parents=True)
            fill(beside)
            others = {child.name for child in folder.iterdir()} if folder.exists() else set()
            if others := others - {child.name for child in beside.iterdir()} - _listed(folder):
                raise _foreign(folder, min(others))
            for path in [beside, *sorted(beside.rglob("*"))]:
                _sync(path)
            if folder.exists():
                folder.rename(old)
            try:
                beside.rename(folder)
            except OSError:
                if old.exists():
                    old.rename(folder)
                raise
            _sync(folder.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def _listed(folder: Path) -> set[str]:
    """What an earlier dataset's manifest names at the top of its folder; the new one may lack some of it."""
    try:
        files = json.loads((folder / "prefdata.manifest.json").read_text(encoding="utf-8"))["files"]
        return {str(name).partition("/")[0] for name in files}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def check_replaceable(folder: Path) -> None:
    """Refuses a place where `replace_folder` would not write, before anything is spent on filling it.

    Raises:
        StoreError: it is a file, or holds something else than a dataset of ours.
    """
    with store_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"{str(folder)!r} is a file, not a folder", hint="choose another folder with --out")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / "ledger.json").exists():
            raise _foreign(folder, next(folder.iterdir()).name)


def _mend(folder: Path) -> None:
    """Clears what killed processes left beside `folder`; a dataset that one of them had put aside comes back."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        process, _, kind = left.name.removeprefix(f".{folder.name}.").partition(".")
        # Process ids come again, in containers at every start: what bears ours is not ours yet.
        if kind not in ("part", "old") or not process.isdigit() or _runs(int(process)):
            continue
        if kind == "old" and not folder.exists():
            left.rename(folder)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _foreign(folder: Path, name: str) -> StoreError:
    return StoreError(
        f"{str(folder)!r} holds other files ({name!r}), which writing a dataset there would delete",
        valid="a new or empty folder, or one that holds a dataset of prefdata and nothing else",
        hint="choose another folder with --out",
    )


class Journal:
    """Finished work of one shard that is not written yet: one line each, appended the moment it is known.

    A line is `<crc32 of the rest, 8 hex digits> <JSON>`. The bytes are handed to the system at once, so killing the
    process loses nothing that was appended; `sync` makes them safe against a power cut.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def read(self) -> Iterator[JSON]:
        """The records so far; a torn or damaged end is cut off."""
        if not self.path.exists():
            return
        good = 0
        with self.path.open("rb") as file:
            for line in file:
                crc, _, text = line.rstrip(b"\n").partition(b" ")
                if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text):
                    break
                yield json.loads(text)
                good += len(line)
        if good < self.path.stat().st_size:
            with store_errors(self.path):
                os.truncate(self.path, good)

    def append(self, record: JSON) -> None:
        """Adds one record."""
        text = canonical_json(record).encode()
        with store_errors(self.path):
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
                _sync(self.path.parent)
            line = b"%08x %s\n" % (zlib.crc32(text), text)
            while line:
                line = line[self._file.write(line) :]

    def sync(self) -> None:
        """Makes what was appended safe against a power cut."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self, *, remove: bool = False) -> None:
        """Closes the file, and removes it when its shard is written."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if remove:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class StageFolder:
    """The output of one stage under one key."""

    path: Path

    def shard(self, number: int) -> Path:
        """Where shard `number` stands. It exists exactly when it is complete."""
        return self.path / f"shard-{number:05d}.parquet"

    def side_table(self, kind: str, number: int) -> Path:
        """A second table of shard `number` (`drops`, `candidate_drops`); written before the shard itself."""
        return self.path / f"{kind}-{number:05d}.parquet"

    def journal(self, number: int) -> Journal:
        """The journal of shard `number`."""
        return Journal(self.path / f"journal-{number:05d}.jsonl")

    @property
    def report(self) -> JSON | None:
        """What the finished stage counted; None while it is not finished."""
        path = self.path / "stage.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def finish(self, report: JSON) -> None:
        """Marks the stage as finished."""
        write_json(self.path / "stage.json", report)

    def create(self) -> None:
        """Makes the folder, and clears what a killed run left half written."""
        with store_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for left in self.path.glob(".*.part"):
                left.unlink()


class BuildFolder:
    """The folder that holds a run of a recipe."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def dataset(self) -> Path:
        """The dataset folder, in the layout of the Hub."""
        return self.root / "dataset"

    @property
    def lock_file(self) -> Path:
        """Every input pinned."""
        return self.root / "prefdata.lock.json"

    @property
    def spending_file(self) -> Path:
        """What endpoints were paid over all runs."""
        return self.root / "spending.jsonl"

    def stage(self, name: str, key: str, shard_size: int) -> StageFolder:
        """The folder of stage `name` under a fingerprint, in shards of so many prompts."""
        return StageFolder(self.root / "stages" / f"{name}-{key[:16]}-{shard_size}")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the right to write; the system gives it back when the process ends, however it ends.

        Raises:
            StoreError: another build holds it, or the folder can't be made.
        """
        with store_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / ".writing").open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StoreError(
                    f"{str(self.root)!r} is in use by another build",
                    hint="wait for it to end, or choose another folder with --out",
                ) from error
            for left in [*self.root.glob(".*.part"), *self.root.glob(".*.old")]:
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)
            yield
