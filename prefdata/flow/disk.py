"""Files and folders that appear whole or not at all, and what the file system refuses in plain words.

All that a build folder holds is made, moved and removed here, so that no error of a disk comes out as a traceback.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from prefdata.errors import StoreError
from prefdata.flow.progress import say
from prefdata.spec import JSON
from prefdata.tables.own_files import REFUSED, append_only, create_new, held, process_runs

__all__ = [
    "alone",
    "append",
    "check_stops",
    "check_replaceable",
    "clear_leftovers",
    "delete",
    "lost_files",
    "make_folder",
    "move",
    "refuse_address",
    "replace_folder",
    "stopped_by",
    "store_errors",
    "sync",
    "sync_open",
    "write_atomically",
    "write_bytes",
    "write_json",
]

_MANIFEST = "prefdata.manifest.json"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.:-]+:")
_stops: list[Callable[[], None]] = []
_OTHER_OUT = "choose another folder with --out"
_AGAIN = "run the same command again: it goes on where it stopped. If this comes back, choose another folder with --out"
_MEANING = {
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again: it goes on where it stopped"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EFBIG: ("a file would be larger than this system allows", "raise the limit, then run the command again"),
    errno.EACCES: ("the folder can't be written by this user", _OTHER_OUT),
    errno.EPERM: ("the folder can't be written by this user", _OTHER_OUT),
    errno.EROFS: ("the file system is read-only", _OTHER_OUT),
    errno.ENOENT: ("its folder can't be made, or was deleted meanwhile", _OTHER_OUT),
    errno.ENOTDIR: ("a part of the path is a file", _OTHER_OUT),
    errno.ENAMETOOLONG: ("the path is longer than this system allows", _OTHER_OUT),
    errno.ELOOP: (
        "it is a link, or its links lead in a circle",
        f"remove the link, or {_OTHER_OUT}",
    ),
    errno.EEXIST: ("there is a file of that name", _OTHER_OUT),
    errno.EISDIR: ("there is a folder of that name", f"remove it, or {_OTHER_OUT}"),
    errno.EXDEV: ("the file system can't move files within this folder", _OTHER_OUT),
}


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turns every error of the file system into a `StoreError` that says what to do."""
    try:
        yield
    except OSError as error:
        plain = f"the file system says {error.strerror or str(error).partition(chr(10))[0]!r}"
        why, hint = _MEANING.get(error.errno or 0, (plain, _AGAIN))
        raise StoreError(f"{str(path)!r} can't be written: {why}", hint=hint) from error


@contextmanager
def stopped_by(check: Callable[[], None]) -> Iterator[None]:
    """Calls `check` after each write within the block, in any thread; what it raises stops the build."""
    _stops.append(check)
    try:
        yield
    finally:
        _stops.remove(check)


def check_stops() -> None:
    """Raises what is to stop a build, after something of it was written."""
    for check in _stops:
        check()


def sync(path: Path) -> None:
    """Makes a file's content, or the names in a folder, safe against a power cut; says so where that can't be done."""
    with store_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            sync_open(descriptor)
        finally:
            os.close(descriptor)


def sync_open(descriptor: int) -> None:
    """Does what `sync` does, for a file that is open.

    Raises:
        OSError: the disk can't write what the file holds.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        _say_unsafe()


@functools.cache
def _say_unsafe() -> None:
    say("this file system can't make files safe against a power cut: one may cost what was finished last")


def make_folder(path: Path) -> None:
    """Makes a folder and its parents where they are missing.

    Raises:
        StoreError: it can't be made, or is the address of another machine's.
    """
    refuse_address(path)
    with store_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def refuse_address(path: Path) -> None:
    """Refuses an address, which would be a folder of a name such as `s3:` here.

    Raises:
        StoreError: it is one.
    """
    if path.parts and _ADDRESS.fullmatch(path.parts[0]) and not Path(path.parts[0]).exists():
        address = str(path).replace(":/", "://", 1)
        raise StoreError(
            f"{address!r} is the address of a folder elsewhere, and this writes folders of this machine only",
            valid="a path; an address of an object store (as a text) for `build` and `check`: s3://bucket/folder",
        )


def move(path: Path, target: Path) -> None:
    """Gives a file another name, in place of a file of that name.

    Raises:
        StoreError: it can't be moved.
    """
    with store_errors(target):
        path.replace(target)


def delete(path: Path) -> None:
    """Removes a file, where it is there.

    Raises:
        StoreError: it can't be removed.
    """
    with store_errors(path):
        path.unlink(missing_ok=True)


def append(path: Path) -> int:
    """Opens a file to append to it, safe against a power cut where it is new; returns its descriptor.

    Raises:
        StoreError: it is a link, or can't be opened.
    """
    with store_errors(path):
        new = not path.exists()
        descriptor = append_only(path)
        if new:
            sync(path.parent)
    return descriptor


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds the right to write a folder; the system releases it when the process ends, however it ends.

    Raises:
        StoreError: another process holds it, or the folder can't be made.
    """
    make_folder(folder)
    with ExitStack() as stack:
        with store_errors(folder / ".writing"):
            stack.enter_context(held(folder / ".writing", f"{str(folder)!r} is in use by another build", say))
        yield


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a file next to `path`, then moves it there at once, safe against a crash and a power cut.

    Raises:
        StoreError: the folder can't be written or is full. What was there before is untouched.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    with store_errors(path):
        try:
            create_new(partial)
            write(partial)
            sync(partial)
            partial.replace(path)
            sync(path.parent)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
    check_stops()


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a small file, atomically."""

    def write(partial: Path) -> None:
        partial.write_bytes(content)

    write_atomically(path, write)


def write_json(path: Path, value: JSON) -> None:
    """Writes a value as indented JSON with sorted keys, atomically."""
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def check_replaceable(folder: Path) -> None:
    """Refuses a folder that `replace_folder` would not replace, before anything is spent on filling it.

    Raises:
        StoreError: it is a file, or holds anything but a dataset of prefdata, at any depth.
    """
    refuse_address(folder)
    with store_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"{str(folder)!r} is a file, not a folder", hint="choose another folder with --out")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / "ledger.json").exists():
            raise _foreign(folder, next(folder.iterdir()).name)
        listed = _listed(folder)
        if listed and (unlisted := _files_of(folder) - listed - {_MANIFEST}):
            raise _foreign(folder, min(unlisted), lost_files(folder))


def lost_files(folder: Path) -> set[str]:
    """Lists what the manifest of a dataset folder names, and the folder does not have."""
    return _listed(folder) - _files_of(folder)


def replace_folder(
    folder: Path, fill: Callable[[Path], None], check: Callable[[Path], None] = check_replaceable
) -> None:
    """Lets `fill` write into an empty folder next to `folder`, then moves that there.

    Args:
        folder: where it ends.
        fill: writes it.
        check: refuses a folder that is not to be replaced, as `check_replaceable` does.

    Raises:
        StoreError: the parent can't be written or is full, or another process is writing the folder. What was there
            before is untouched.
    """
    refuse_address(folder)
    folder = folder.absolute()
    with store_errors(folder):
        clear_leftovers(folder, folder=True)
    check(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    with store_errors(folder):
        try:
            partial.mkdir(parents=True)
            # Of two that begin at once, both may see the other and stop; never do both go on.
            _check_alone(folder)
            fill(partial)
            others = {child.name for child in folder.iterdir()} if folder.exists() else set()
            listed = {name.partition("/")[0] for name in _listed(folder)}
            if others := others - {child.name for child in partial.iterdir()} - listed:
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
            # Where moving it back failed, it is the only copy: the next run moves it.
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)


def _check_alone(folder: Path) -> None:
    """Refuses a folder that another process is filling.

    Raises:
        StoreError: there is one.
    """
    for child in _children(folder.parent):
        match = _parts_of(folder).fullmatch(child.name)
        if match is not None and match[2] == "part" and process_runs(int(match[1])):
            raise StoreError(
                f"{str(folder)!r} is being written by another process ({match[1]})",
                hint=f"wait for it to end, or choose another folder with --out; if process {match[1]} is another "
                f"program, remove {str(child)!r}",
            )


def _parts_of(path: Path) -> re.Pattern[str]:
    return re.compile(rf"\.{re.escape(path.name)}\.(\d{{1,10}})\.(part|old)")


def _listed(folder: Path) -> set[str]:
    """Lists what an earlier dataset's manifest names; the new one may lack some. Empty where it can't be read."""
    try:
        files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
        return {str(name) for name in files}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _files_of(folder: Path) -> set[str]:
    """Lists everything but folders below a folder, by relative path; links are not followed."""
    names = set()
    for directory, folders, files in os.walk(folder):
        here = Path(directory).relative_to(folder)
        links = [name for name in folders if (Path(directory) / name).is_symlink()]
        names |= {(here / name).as_posix() for name in (*files, *links)}
    return names


def clear_leftovers(path: Path, *, folder: bool, locked: bool = False) -> None:
    """Removes what killed processes left next to `path`, half written or put aside.

    A folder that one of them had put aside, and not yet replaced, is moved back. Nothing else is touched: ours are only
    `.<name>.<number of a process>.part` and, of folders, `.old`.

    Args:
        path: a file or folder of ours, which need not be there.
        folder: whether it is a folder.
        locked: whether this process alone may write there; otherwise what a process that runs has made is left alone.

    Raises:
        OSError: what was put aside can't be moved back.
    """
    for child in _children(path.parent):
        match = _parts_of(path).fullmatch(child.name)
        # Process ids repeat, in containers at every start: an earlier process had the id of this one.
        if match is None or child.is_symlink() or child.is_dir() != folder:
            continue
        if not locked and process_runs(int(match[1])):
            continue
        if match[2] == "old" and folder and not path.exists():
            child.rename(path)
        elif folder:
            shutil.rmtree(child, ignore_errors=True)
        elif match[2] == "part":
            with suppress(OSError):
                child.unlink()


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _foreign(folder: Path, name: str, lost: Collection[str] = ()) -> StoreError:
    problem = f"{str(folder)!r} holds other files ({name!r}), which writing a dataset there would delete"
    if not lost:
        valid, hint = "a new or empty folder, or one that holds a dataset of prefdata and nothing else", _OTHER_OUT
    else:
        problem += f"; its {_MANIFEST} lists {min(lost)!r}, which is not there"
        valid = "the folder as prefdata has written it"
        hint = f"{_OTHER_OUT}, or move this one away, as prefdata build does with --repair"
    return StoreError(problem, valid=valid, hint=hint)
