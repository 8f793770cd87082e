"""A worker process as its parent sees it: two channels, its last words, and an end that leaves nothing behind."""

from __future__ import annotations

import collections
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from prefdata import errors
from prefdata.errors import ModelError, UserError
from prefdata.spec import JSON

__all__ = ["PARENT", "RESULTS", "WorkerProcess"]

RESULTS = "PREFDATA_WORKER_RESULTS"
"""Environment variable: the worker's end of the pipe for results."""
PARENT = "PREFDATA_WORKER_PARENT"
"""Environment variable: the process with which the worker must die."""
_KEPT_LINES = 20
_PIPE_BYTES = 1 << 20


class WorkerProcess:
    """The process, its two channels, and its last lines. Begun with `python -m MODULE`."""

    def __init__(self, module: str, env: Mapping[str, str], name: str) -> None:
        self.name = name
        self.waiting = 0
        """Items that were sent and are not answered."""
        self.lines: collections.deque[dict[str, JSON]] = collections.deque()
        """What it told and nobody took yet."""
        self.eof = False
        self.broken = False
        """It takes nothing any more."""
        self._rest = b""
        self.results, results_out = os.pipe()
        _widen(results_out)
        said_in, said_out = os.pipe()
        try:
            # The safe path (-P) keeps the folder that the user stands in from shadowing an engine's imports.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=said_out,
                stderr=said_out,
                pass_fds=[results_out],
                env=_environment(env, results_out),
                start_new_session=True,
            )
        except OSError as error:
            os.close(self.results)
            os.close(said_in)
            raise ModelError(f"{name} can't be started: {error}") from error
        finally:
            os.close(results_out)
            os.close(said_out)
        self._last_words: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self._listener = threading.Thread(target=self._listen, args=(said_in,), daemon=True)
        self._listener.start()

    def _listen(self, said: int) -> None:
        with os.fdopen(said, encoding="utf-8", errors="replace") as lines:
            self._last_words.extend(line.rstrip() for line in lines if line.strip())

    def send(self, message: Mapping[str, JSON]) -> None:
        """Hands it one message; where it has gone, `broken` says so."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # What it had answered, and why it went, is still to be read.
            self.broken = True

    @property
    def answered(self) -> bool:
        """Whether the first of `lines` is a result; an error comes after all results."""
        return bool(self.lines) and "result" in self.lines[0]

    def take(self) -> dict[str, JSON]:
        """The first of `lines`; raises the error that it reported instead."""
        message = self.lines.popleft()
        if "error" in message:
            raise _as_user_error(message["error"])
        result: dict[str, JSON] = message["result"]
        return result

    def read(self) -> bool:
        """Reads a piece of the result pipe, which must have something; says if it told anything."""
        piece = os.read(self.results, _PIPE_BYTES)
        self.eof = not piece
        *whole, self._rest = (self._rest + piece).split(b"\n")
        self.lines.extend(json.loads(line) for line in whole)
        return bool(whole) or self.eof

    def ended(self) -> bool:
        """Whether the process has ended, whatever its pipe says."""
        return self._process.poll() is not None

    def death(self) -> ModelError:
        """What to raise for its end before its work was done."""
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            how = "closed its result pipe"
        else:
            how = f"ended with exit status {status}" if status >= 0 else f"was ended by {_signal_name(-status)}"
        self._listener.join(timeout=10)
        words = "\n    ".join(self._last_words)
        hint = None
        if self._process.returncode == -signal.SIGKILL:
            hint = "a kill from outside is often the system running out of memory: try a smaller model or batch"
        problem = f"{self.name} {how} before it had answered everything"
        return ModelError(f"{problem}; its last words:\n    {words}" if words else problem, hint=hint)

    def tell(self, sign: signal.Signals) -> None:
        """Sends a signal to it and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, sign)

    def close(self) -> None:
        """Ends it and all that it started, and waits until they hold no memory any more."""
        self.tell(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5.0)
        # What an engine started (a process for each device) can outlive it, and it is they who hold the memory.
        until = time.monotonic() + 10.0
        while _group_lives(self._process.pid) and time.monotonic() < until:
            self.tell(signal.SIGKILL)
            self._process.poll()
            time.sleep(0.01)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._listener.join(timeout=2)
        os.close(self.results)


def _group_lives(group: int) -> bool:
    """Whether any process of a group still runs; one that only waits to be reaped holds nothing any more."""
    if not sys.platform.startswith("linux"):
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state not in "ZX":
                return True
    return False


def _widen(pipe: int) -> None:
    """Room for many results, so that a worker need not wait where this side is busy for some seconds."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        # Refused beyond the user's limit; the usual 64 KiB remain.
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _environment(env: Mapping[str, str], results: int) -> dict[str, str]:
    here = str(Path(__file__).resolve().parents[2])
    merged = {**os.environ, **env, RESULTS: str(results)}
    merged["PYTHONPATH"] = os.pathsep.join(filter(None, (here, merged.get("PYTHONPATH", ""))))
    # The kernel ties the death signal to the thread that started the child: any other thread than the first may
    # end long before the parent does.
    if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
        merged[PARENT] = str(os.getpid())
    return merged


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _as_user_error(told: Mapping[str, JSON]) -> UserError:
    kind = getattr(errors, told["kind"], ModelError)
    error: UserError = kind(told["problem"], valid=told["valid"], hint=told["hint"])
    return error
