"""Opens the files that prefdata itself writes: never through a link, never emptied by opening, and one holder a lock.

A folder may come from somebody else, so each name in it may be a link to a file of the user's.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prefdata.errors import StoreError
from prefdata.spec import JSON

__all__ = [
    "REFUSED",
    "append_only",
    "cache_folder",
    "create_new",
    "held",
    "process_runs",
    "read_and_write",
    "read_bytes",
    "read_only",
]

REFUSED = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})
"""What file systems say that have no locks, or that can't make a file safe against a power cut."""

_PLAIN = os.O_NOFOLLOW | os.O_CLOEXEC


def append_only(path: Path) -> int:
    """Opens a file to append to it, and makes it where it is missing; returns its descriptor.

    Raises:
        OSError: it is a link (`ELOOP`), or can't be opened.
    """
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _PLAIN, 0o666)


def read_and_write(path: Path) -> int:
    """Opens a file that is there to read and change it; returns its descriptor.

    Raises:
        OSError: it is a link (`ELOOP`), or can't be opened.
    """
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | _PLAIN)


def read_only(path: Path) -> int:
    """Opens a file that is there to read it; returns its descriptor.

    Raises:
        OSError: it is a link (`ELOOP`), or can't be opened.
    """
    # Opening a pipe would wait for somebody to write to it.
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | _PLAIN)


def create_new(path: Path) -> None:
    """Makes an empty file, in place of a file or link of that name, which is only removed.

    Raises:
        OSError: it can't be made.
    """
    with suppress(FileNotFoundError):
        path.unlink()
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o666))


def read_bytes(path: Path, limit: int) -> bytes | None:
    """Reads a file whole; returns None where there is none.

    Raises:
        OSError: it can't be read.
        ValueError: it is a link, a folder or a device, or is larger than the limit.
    """
    try:
        descriptor = read_only(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("it is a link") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is not a file")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit:,} bytes")
    return content


def process_runs(process: int) -> bool:
    """Finds out whether another process of this machine has a given number."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def held(path: Path, use: str, log: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock while the block runs. The system releases it when the process ends, however it ends.

    Where the file system has no locks, a file next to it names the host and the process in place of a lock.

    Args:
        path: of the lock; an empty file, which stays.
        use: what another holder does, for the message.
        log: is told of a file system without locks.

    Raises:
        StoreError: another process holds it.
        OSError: the file can't be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | _PLAIN, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(use, "wait for it to end") from error
        except OSError as error:
            if error.errno not in REFUSED:
                raise
        else:
            yield
            return
    finally:
        os.close(descriptor)
    log(f"{str(path.parent)!r} is on a file system without locks: a file says which process is at work there")
    holder = path.with_name(f"{path.name}.held")
    _take(holder, use)
    try:
        yield
    finally:
        with suppress(OSError):
            holder.unlink()


def _take(holder: Path, use: str) -> None:
    """Makes the file that stands for a lock, in place of one whose process has ended."""
    process = os.getpid()
    holder_of = {"host": socket.gethostname(), "process": process, "started": _started(process)}
    ours = json.dumps(holder_of, allow_nan=False)
    for _ in range(3):
        try:
            descriptor = os.open(holder, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o666)
        except FileExistsError:
            _remove_dead(holder, use)
            continue
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(ours)
        except OSError:
            holder.unlink()
            raise
        return
    raise _in_use(use, "run the command again")


def _remove_dead(holder: Path, use: str) -> None:
    # Moved before it is judged, so that of two processes only one removes it.
    mine = holder.with_name(f"{holder.name}.{os.getpid()}")
    try:
        before = holder.read_bytes()
        if not _dead(before):
            raise _in_use(use, f"wait for it to end; if it runs no more, remove {str(holder)!r}")
        holder.rename(mine)
    except FileNotFoundError:
        return
    if mine.read_bytes() == before:
        mine.unlink()
    else:
        mine.rename(holder)


def _dead(content: bytes) -> bool:
    try:
        holder: JSON = json.loads(content)
        host, process, started = holder["host"], int(holder["process"]), holder["started"]
    except (ValueError, KeyError, TypeError):
        # Torn by a crash while it was written, or being written now: only its owner can say.
        return False
    runs = process == os.getpid() or process_runs(process)
    return bool(host == socket.gethostname() and not (runs and _started(process) == started))


def _started(process: int) -> str:
    """Reads when a process was started, which its number alone does not say; empty where the system can't say."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _in_use(use: str, hint: str) -> StoreError:
    return StoreError(use, hint=f"{hint}, or choose another folder with --out")


def cache_folder() -> Path:
    """Returns the folder for files that can be recreated: `$XDG_CACHE_HOME/prefdata`, else `~/.cache/prefdata`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "prefdata"
