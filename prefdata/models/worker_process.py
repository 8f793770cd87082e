"""Starts and ends a worker process: request and result pipes, its last log lines, and its process group."""

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
from prefdata.models.environment import worker_command, worker_environment
from prefdata.spec import JSON

__all__ = ["PARENT", "RESULTS", "WorkerProcess"]

RESULTS = "PREFDATA_WORKER_RESULTS"
"""Environment variable: file descriptor of the worker's end of the result pipe."""
PARENT = "PREFDATA_WORKER_PARENT"
"""Environment variable: id of the process with which the worker must die."""
_KEPT_LINES = 20
_PIPE_BYTES = 1 << 20


class WorkerProcess:
    """A process that runs a module as `python -m MODULE` would, its two pipes, and its last log lines.

    Args:
        module: import path of the worker.
        env: environment variables besides those that workers get of this process: see `worker_environment`.
        name: name of the worker in messages.

    Raises:
        ModelError: the process can't be started.
    """

    def __init__(self, module: str, env: Mapping[str, str], name: str) -> None:
        self.name = name
        self.waiting = 0
        """Number of items that were sent and are not answered."""
        self.lines: collections.deque[dict[str, JSON]] = collections.deque()
        """Messages that were read from the result pipe and not taken yet."""
        self.eof = False
        """True once the result pipe has ended."""
        self.broken = False
        """True once the worker has closed its standard input."""
        self._rest = b""
        self.results, results_out = os.pipe()
        _widen(results_out)
        log, log_out = os.pipe()
        try:
            self._process = subprocess.Popen(
                worker_command(module),
                stdin=subprocess.PIPE,
                stdout=log_out,
                stderr=log_out,
                pass_fds=[results_out],
                env=_environment(env, results_out),
                start_new_session=True,
            )
        except OSError as error:
            os.close(self.results)
            os.close(log)
            raise ModelError(f"{name} can't be started: {error}") from error
        finally:
            os.close(results_out)
            os.close(log_out)
        self._last_lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self._listener = threading.Thread(target=self._listen, args=(log,), daemon=True)
        self._listener.start()

    def _listen(self, log: int) -> None:
        with os.fdopen(log, encoding="utf-8", errors="replace") as lines:
            self._last_lines.extend(line.rstrip() for line in lines if line.strip())

    def send(self, message: Mapping[str, JSON]) -> None:
        """Sends one message; sets `broken` if the worker is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message, allow_nan=True).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # Its results, and the reason of its end, are still to be read.
            self.broken = True

    @property
    def answered(self) -> bool:
        """True if the first of `lines` is a result; an error comes after all results."""
        return bool(self.lines) and "result" in self.lines[0]

    def take(self) -> dict[str, JSON]:
        """Removes and returns the first of `lines`.

        Raises:
            UserError: that line reports an error of the worker.
        """
        message = self.lines.popleft()
        if "error" in message:
            raise self.error_of(message["error"])
        result: dict[str, JSON] = message["result"]
        return result

    def read(self) -> bool:
        """Reads some of the result pipe, which must not be empty; returns whether a whole line or the end was read."""
        chunk = os.read(self.results, _PIPE_BYTES)
        self.eof = not chunk
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        self.lines.extend(json.loads(line) for line in whole)
        return bool(whole) or self.eof

    def ended(self) -> bool:
        """Returns whether the process has ended, even if its pipe is still open."""
        return self._process.poll() is not None

    def death(self) -> ModelError:
        """Returns the error for a process that ended before its work was done."""
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            how = "closed its result pipe"
        else:
            how = f"ended with exit status {status}" if status >= 0 else f"was ended by {_signal_name(-status)}"
        self._listener.join(timeout=10)
        lines = "\n    ".join(self._last_lines)
        hint = None
        if self._process.returncode == -signal.SIGKILL:
            hint = "a kill from outside often means that the system ran out of memory: try a smaller model or batch"
        problem = f"{self.name} {how} before it had answered everything"
        return ModelError(f"{problem}; its last lines:\n    {lines}" if lines else problem, hint=hint)

    @staticmethod
    def error_of(report: Mapping[str, JSON]) -> UserError:
        """Makes the error that a worker has reported."""
        kind = getattr(errors, report["kind"], ModelError)
        error: UserError = kind(report["problem"], valid=report["valid"], hint=report["hint"])
        return error

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process and all processes that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def close(self) -> None:
        """Ends the process and all processes that it started, and waits until their memory is free."""
        self.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5.0)
        # Processes that an engine started (one for each device) can outlive it, and they hold the memory.
        until = time.monotonic() + 10.0
        while _group_lives(self._process.pid) and time.monotonic() < until:
            self.send_signal(signal.SIGKILL)
            self._process.poll()
            time.sleep(0.01)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._listener.join(timeout=2)
        os.close(self.results)


def _group_lives(group: int) -> bool:
    """Returns whether any process of a group still runs; a zombie holds no memory, so it does not count."""
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
    """Enlarges a pipe's buffer, so that a worker need not wait while this side is busy for some seconds."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        # The kernel refuses sizes beyond the user's limit; then the usual 64 KiB remain.
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _environment(env: Mapping[str, str], results: int) -> dict[str, str]:
    merged = {**worker_environment(env), RESULTS: str(results)}
    # The kernel sends the death signal when the thread that started the child ends: a thread other than the first may
    # end long before the parent does.
    if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
        merged[PARENT] = str(os.getpid())
    return merged


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
