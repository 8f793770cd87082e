"""Files and folders that appear whole or not at all, and what the file system refuses in plain words."""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prefdata.errors import StoreError
from prefdata.spec import JSON

__all__ = ["check_replaceable", "replace_folder", "store_errors", "sync", "write_atomically", "write_json"]

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


def sync(path: Path) -> None:
    """Makes a file's content, or the names in a folder, safe against a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a file next to `path`, then moves it there at once, safe against a crash and a power cut.

    Raises:
        StoreError: the folder can't be written or is full. What was there before is untouched.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    with store_errors(path):
        try:
            write(partial)
            sync(partial)
            partial.replace(path)
            sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def write_json(path: Path, value: JSON) -> None:
    """Writes a value as indented JSON with sorted keys, atomically."""
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n"

    def write(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Lets `fill` write into an empty folder next to `folder`, then moves that there.

    Only a folder that holds a dataset of prefdata, or nothing, is replaced.

    Raises:
        StoreError: the parent can't be written or is full. What was there before is untouched.
    """
    folder = folder.absolute()
    check_replaceable(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    with store_errors(folder):
        _clear_leftovers(folder)
        try:
            partial.mkdir(parents=True)
            fill(partial)
            others = {child.name for child in folder.iterdir()} if folder.exists() else set()
            if others := others - {child.name for child in partial.iterdir()} - _listed(folder):
                raise _foreign(folder, min(others))
            for path in [partial, *sorted(partial.rglob("*"))]:
                sync(path)
            if folder.exists():
                folder.rename(old)
            try:
                partial.rename(folder)
            except OSError:
                if old.exists():
                    old.rename(folder)
                raise
            sync(folder.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def _listed(folder: Path) -> set[str]:
    """Lists what an earlier dataset's manifest names at the top of its folder; the new dataset may lack some of it."""
    try:
        files = json.loads((folder / "prefdata.manifest.json").read_text(encoding="utf-8"))["files"]
        return {str(name).partition("/")[0] for name in files}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def check_replaceable(folder: Path) -> None:
    """Refuses a folder that `replace_folder` would not replace, before anything is spent on filling it.

    Raises:
        StoreError: it is a file, or holds something other than a dataset of prefdata.
    """
    with store_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"{str(folder)!r} is a file, not a folder", hint="choose another folder with --out")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / "ledger.json").exists():
            raise _foreign(folder, next(folder.iterdir()).name)


def _clear_leftovers(folder: Path) -> None:
    """Removes what killed processes left next to `folder`; moves a dataset back that one of them had put aside."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        process, _, kind = left.name.removeprefix(f".{folder.name}.").partition(".")
        # Process ids repeat, in containers at every start: an earlier process had the id of this one.
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
