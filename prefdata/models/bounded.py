"""`bounded`: limits the time and the memory of a short piece of somebody else's program, such as a chat template."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

__all__ = ["SECONDS", "LimitError", "bounded"]

SECONDS = 10.0
"""Most seconds of one rendering; an honest one takes milliseconds."""
_SPARE = 2 << 30
"""Bytes of memory that it may take."""


class LimitError(Exception):
    """Reports that a limit was reached."""


@contextlib.contextmanager
def bounded(seconds: float | None = None, spare: int = _SPARE) -> Iterator[None]:
    """Limits the block to some seconds and some memory besides what the process has.

    Both hold in the main thread only: Python handles signals there, and the limit of memory is one of the whole
    process, so two threads would restore each other's. The memory is limited on Linux only, and not in a process that
    computes on a GPU: CUDA reserves addresses by the hundred GiB whenever it likes, and would fail. There a template
    that takes all memory ends its worker, and no more.

    Args:
        seconds: most seconds; left out, `SECONDS`.
        spare: most bytes.

    Raises:
        LimitError: the block took longer, or needed more.
    """
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(_timed(SECONDS if seconds is None else seconds))
            if sys.platform.startswith("linux") and not _computes_on_gpu():
                stack.enter_context(_small(spare))
        try:
            yield
        except MemoryError:
            raise LimitError(f"it needs more than {spare >> 20:,} MiB of memory") from None


def _computes_on_gpu() -> bool:
    """Returns whether CUDA has been started in this process; loads nothing."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


@contextlib.contextmanager
def _timed(seconds: float) -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise LimitError(f"it takes longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _small(spare: int) -> Iterator[None]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    if soft != resource.RLIM_INFINITY and soft <= used + spare:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
