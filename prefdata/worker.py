"""The one door to an engine that runs in a process of its own.

Engines take over their process: they seed global generators, set thread counts, print to standard output and keep
memory. So each runs as `python -m MODULE`, and two JSON-line channels lead to it: its standard input, and a private
pipe for results (its standard output goes where its standard error goes, and the last lines of that are kept for
the error message).

The side that asks calls `stream`. The module that answers is written like this::

    def main() -> None:
        with connect() as door:
            engine = load(door.config)
            while batch := door.receive(at_least=8, at_most=8):
                for item in engine.answer(batch):
                    door.send(item)

    if __name__ == "__main__":
        main()

A worker never outlives its parent: it ends itself when its standard input ends without the closing line, and on
Linux the kernel ends it when the parent dies.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from prefdata import errors
from prefdata.errors import ModelError, UserError
from prefdata.spec import JSON

__all__ = ["Door", "connect", "stream"]

_RESULTS = "PREFDATA_WORKER_RESULTS"
_PARENT = "PREFDATA_WORKER_PARENT"
_KEPT_LINES = 20
_PR_SET_PDEATHSIG = 1


def stream(
    module: str,
    config: Mapping[str, JSON],
    items: Iterable[Mapping[str, JSON]],
    *,
    in_flight: int,
    env: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Generator[dict[str, JSON], None, None]:
    """Sends `items` through a worker process and yields its results in the order in which they finish.

    The worker starts with the first item and ends with the last result, or when this iterator is closed.

    Args:
        module: import path of the worker; it must send exactly one result for each item.
        config: what the worker finds in `Door.config`.
        items: JSON objects. Pulled as there is room for them, and a finished result goes out before the next pull.
        in_flight: most items that are sent and not answered. A worker that waits for `at_least` items needs no less.
        env: environment variables of the worker, over those of this process.
        name: what error messages call the worker; left out, its module.

    Yields:
        What the worker sent, one JSON object for each item.

    Raises:
        UserError: the worker reported one (usually `ModelError`); it is raised here as the same class.
        ModelError: the worker died; with its exit status and its last lines.
    """
    source = iter(items)
    try:
        first = next(source)
    except StopIteration:
        return
    worker = _Worker(module, env or {}, name or module)
    try:
        worker.send({"config": dict(config)})
        worker.send({"item": dict(first)})
        waiting, more = 1, True
        while waiting or more:
            while more and waiting < in_flight and not worker.has_result():
                try:
                    item = next(source)
                except StopIteration:
                    worker.send({"end": True})
                    more = False
                else:
                    worker.send({"item": dict(item)})
                    waiting += 1
            if waiting:
                result = worker.receive()
                waiting -= 1
                yield result
    finally:
        worker.close()


class _Worker:
    """The parent's side: the process, its two channels, and its last lines."""

    def __init__(self, module: str, env: Mapping[str, str], name: str) -> None:
        self.name = name
        self._lines: collections.deque[dict[str, JSON]] = collections.deque()
        self._rest = b""
        self._eof = False
        self._results, results_out = os.pipe()
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
            os.close(self._results)
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
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # It may have said why before it went.
            self._drain_errors()
            raise self._death() from None

    def has_result(self) -> bool:
        return bool(self._lines) or self._read(timeout=0)

    def receive(self) -> dict[str, JSON]:
        while not self._lines:
            if self._eof:
                raise self._death()
            # A process forked by the worker can hold its end of the pipe open, so the end of the pipe alone
            # would not tell of its death.
            if not self._read(timeout=1000) and self._process.poll() is not None and not self._read(timeout=0):
                raise self._death()
        message = self._lines.popleft()
        if "error" in message:
            raise _as_user_error(message["error"])
        result: dict[str, JSON] = message["result"]
        return result

    def _read(self, timeout: int) -> bool:
        """Reads what is there, waiting up to `timeout` milliseconds; says if the pipe told anything."""
        poll = select.poll()
        poll.register(self._results, select.POLLIN)
        if self._eof or not poll.poll(timeout):
            return False
        piece = os.read(self._results, 1 << 16)
        self._eof = not piece
        *whole, self._rest = (self._rest + piece).split(b"\n")
        self._lines.extend(json.loads(line) for line in whole)
        return bool(whole) or self._eof

    def _drain_errors(self) -> None:
        while self._read(timeout=1000) and not self._eof:
            continue
        for message in self._lines:
            if "error" in message:
                raise _as_user_error(message["error"])

    def _death(self) -> ModelError:
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            how = "closed its result pipe"
        else:
            how = f"ended with exit status {status}" if status >= 0 else f"was ended by {_signal_name(-status)}"
        self._listener.join(timeout=2)
        words = "\n    ".join(self._last_words)
        hint = None
        if self._process.returncode == -signal.SIGKILL:
            hint = "a kill from outside is often the system running out of memory: try a smaller model or batch"
        problem = f"{self.name} {how} before it had answered everything"
        return ModelError(f"{problem}; its last words:\n    {words}" if words else problem, hint=hint)

    def close(self) -> None:
        """Ends the worker and all that it started, and waits until they hold no memory any more."""
        for sign, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 10.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=patience)
                break
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._listener.join(timeout=2)
        os.close(self._results)


def _environment(env: Mapping[str, str], results: int) -> dict[str, str]:
    here = str(Path(__file__).resolve().parent.parent)
    merged = {**os.environ, **env, _RESULTS: str(results)}
    merged["PYTHONPATH"] = os.pathsep.join(filter(None, (here, merged.get("PYTHONPATH", ""))))
    # The kernel ties the death signal to the thread that started the child: any other thread than the first may
    # end long before the parent does.
    if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
        merged[_PARENT] = str(os.getpid())
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


class Door:
    """The worker's side of the two channels; see `connect`."""

    def __init__(self, requests: IO[bytes], results: IO[bytes]) -> None:
        self.ended = False
        """True when every item has been received and no more will come."""
        self._results = results
        self._items: queue.SimpleQueue[dict[str, JSON] | None] = queue.SimpleQueue()
        self.config: dict[str, JSON] = json.loads(requests.readline() or b'{"config": {}}')["config"]
        """What the parent gave to `stream`."""
        threading.Thread(target=self._listen, args=(requests,), daemon=True).start()

    def _listen(self, requests: IO[bytes]) -> None:
        for line in requests:
            message = json.loads(line)
            if "end" in message:
                self._items.put(None)
                return
            self._items.put(message["item"])
        # No closing line: the parent is gone. Nobody would read another answer.
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)

    def receive(self, *, at_least: int = 1, at_most: int | None = None) -> list[dict[str, JSON]]:
        """Takes items that have arrived.

        Args:
            at_least: waits for this many; 0 never waits. Fewer come only when no more will.
            at_most: leaves the rest for the next call; None takes all that have arrived.

        Returns:
            The items in the order in which they were sent.
        """
        items: list[dict[str, JSON]] = []
        while not self.ended and (at_most is None or len(items) < at_most):
            try:
                item = self._items.get(block=len(items) < at_least)
            except queue.Empty:
                break
            if item is None:
                self.ended = True
            else:
                items.append(item)
        return items

    def send(self, result: Mapping[str, JSON]) -> None:
        """Hands one result to the parent, at once."""
        self._tell({"result": dict(result)})

    def fail(self, error: UserError) -> None:
        """Makes the parent raise this error."""
        # A private subclass is told as the public class that it stands for.
        kind = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in errors.__all__)
        self._tell({"error": {"kind": kind, "problem": error.problem, "valid": error.valid, "hint": error.hint}})

    def _tell(self, message: Mapping[str, JSON]) -> None:
        self._results.write(json.dumps(message).encode() + b"\n")
        self._results.flush()


@contextlib.contextmanager
def connect() -> Iterator[Door]:
    """Opens the worker's door: call it before anything heavy is imported.

    A `UserError` raised inside is raised again by the parent's `stream`; any other exception ends the worker with
    its traceback, of which the parent shows the last lines.
    """
    results = int(os.environ.pop(_RESULTS))
    # Only this process may hold the channels, not what an engine starts.
    os.set_inheritable(results, False)
    requests = os.dup(0)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    _die_with_parent()
    door = Door(os.fdopen(requests, "rb"), os.fdopen(results, "wb"))
    try:
        yield door
    except UserError as error:
        door.fail(error)
        sys.exit(2)


def _die_with_parent() -> None:
    parent = os.environ.pop(_PARENT, None)
    if parent is None:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        os._exit(1)
