"""Runs an engine in a process of its own, and streams items through it.

Engines take over their process: they seed global generators, set thread counts, print to standard output and keep
memory. So each runs as `python -m MODULE`, isolated from the user's
keys and folders (`prefdata.models.environment`). Two pipes of JSON lines lead to it: its standard input, and a private
pipe for results. Its standard output and standard error are read together, and their last lines are kept for the
error message.

The parent calls `stream`. The worker's module is written like this::

    def main() -> None:
        with open_channel() as channel:
            engine = load(channel.config)
            while batch := channel.receive(at_least=8, at_most=8):
                for item in engine.answer(batch):
                    channel.send(item)

    if __name__ == "__main__":
        main()

A worker that also serves a next stream of the same model (`KeptWorkers`) reads the items of each stream in a round of
its own: see `WorkerChannel.rounds`.

Several workers of one module can share the items (`replicas`). A worker never outlives its parent: it ends itself if
its standard input ends without the closing line, and on Linux the kernel ends it when the parent dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from prefdata import errors
from prefdata.errors import UserError
from prefdata.models.pool import Pool, PoolSpec
from prefdata.models.worker_process import PARENT, RESULTS
from prefdata.spec import JSON, Engines, WorkerPool

__all__ = ["KeptWorkers", "WorkerChannel", "open_channel", "stream"]

_PR_SET_PDEATHSIG = 1


class KeptWorkers:
    """Starts the workers of a stream, and keeps them for a next one that wants the same.

    Args:
        start: makes a pool of workers for a stream with its first round: on this machine, or elsewhere.
    """

    def __init__(self, start: Callable[[PoolSpec, Mapping[str, JSON] | None], WorkerPool] = Pool) -> None:
        self.start = start
        self._kept: tuple[str, WorkerPool] | None = None

    def take(self, key: str) -> WorkerPool | None:
        """Gives the workers that were kept under a key, if there are any; others are ended."""
        if self._kept is None or self._kept[0] != key:
            self.close()
            return None
        (_, pool), self._kept = self._kept, None
        return pool

    def keep(self, key: str, pool: WorkerPool) -> None:
        """Keeps workers that have answered everything; others are ended."""
        self.close()
        self._kept = (key, pool)

    def close(self) -> None:
        """Ends the workers that are kept."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept[1].close()


def stream(
    module: str,
    config: Mapping[str, JSON],
    items: Iterable[Mapping[str, JSON]],
    *,
    in_flight: int,
    env: Mapping[str, str] | None = None,
    name: str | None = None,
    replicas: Sequence[Mapping[str, str]] = ({},),
    together: Callable[[Mapping[str, JSON]], object] | None = None,
    round_options: Mapping[str, JSON] | None = None,
    kept: Engines | None = None,
    started: Callable[[], None] = lambda: None,
    gpus: int = 1,
) -> Generator[dict[str, JSON], None, None]:
    """Sends `items` through worker processes and yields their results in the order in which they finish.

    A worker starts with its first item. All end with the last result, or when this iterator is closed.

    Args:
        module: import path of the worker; it must send exactly one result for each item.
        config: JSON object that the worker reads as `WorkerChannel.config`.
        items: JSON objects. Pulled when there is room for them; a finished result is yielded before the next pull.
        in_flight: most unanswered items of one worker. Must not be less than the `at_least` that a worker waits for.
        env: environment variables of the workers, besides the few that workers get of this process.
        name: name of the worker in error messages; None takes its module.
        replicas: one worker for each entry, which holds environment variables of that worker alone; they override
            `env`. Each item goes to the worker with the fewest unanswered items.
        together: consecutive items for which this returns equal values go to the same worker while it has room.
        round_options: what a worker that reads rounds is told of this one: see `WorkerChannel.rounds`.
        kept: starts the workers, or gives those of an earlier stream with the same arguments; in the end they are kept
            there. None starts them on this machine, and ends them with the last result.
        started: called when workers are started, and not taken from `kept`.
        gpus: how many GPUs each worker uses, where there are any.

    Yields:
        The workers' results, one JSON object for each item.

    Raises:
        UserError: a worker reported one (usually `ModelError`); it is raised here as the same class.
        ModelError: a worker died; the message has its exit status and its last lines.
    """
    environments = tuple({**(env or {}), **own} for own in replicas)
    spec = PoolSpec(module, config, environments, name or module, in_flight, gpus)
    pool = None if kept is None else kept.take(spec.key)
    if pool is not None and not pool.begin(round_options):
        pool.close()
        pool = None
    if pool is None:
        started()
        pool = (KeptWorkers() if kept is None else kept).start(spec, round_options)
    whole = False
    try:
        yield from _answered(pool, iter(items), together)
        whole = True
    finally:
        if kept is not None and whole and not pool.broken:
            kept.keep(spec.key, pool)
        else:
            pool.close()


def _answered(
    pool: WorkerPool, source: Iterator[Mapping[str, JSON]], together: Callable[[Mapping[str, JSON]], object] | None
) -> Iterator[dict[str, JSON]]:
    more, group = True, None
    # After a worker has died nothing is sent: the results that arrived are yielded, then its death is raised.
    while more or pool.waiting:
        while more and pool.has_room() and not pool.broken and not pool.has_result():
            try:
                item = next(source)
            except StopIteration:
                pool.end()
                more = False
            else:
                previous, group = group, together(item) if together else None
                pool.send(item, to_last=together is not None and group == previous)
        if pool.waiting:
            yield pool.receive()


class WorkerChannel:
    """The worker's side of the two pipes; see `open_channel`."""

    def __init__(self, requests: IO[bytes], results: IO[bytes]) -> None:
        self.ended = False
        """True when every item of the round has been received and no more will come."""
        self._results = results
        self._items: queue.SimpleQueue[dict[str, JSON] | None] = queue.SimpleQueue()
        self._rounds: queue.SimpleQueue[dict[str, JSON] | None] = queue.SimpleQueue()
        self.config: dict[str, JSON] = json.loads(requests.readline() or b'{"config": {}}')["config"]
        """The `config` that the parent passed to `stream`."""
        threading.Thread(target=self._listen, args=(requests,), daemon=True).start()

    def _listen(self, requests: IO[bytes]) -> None:
        open_round = True
        for line in requests:
            message = json.loads(line)
            open_round = "end" not in message
            if "round" in message:
                self._rounds.put(message["round"])
            else:
                self._items.put(message.get("item"))
        if not open_round:
            self._rounds.put(None)
            return
        # No closing line: the parent is gone, and no other process reads the answers.
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)

    def rounds(self) -> Iterator[dict[str, JSON]]:
        """Yields the `round_options` of each stream that this worker serves; the items of each are to be received."""
        while (options := self._rounds.get()) is not None:
            self.ended = False
            yield options

    def receive(self, *, at_least: int = 1, at_most: int | None = None) -> list[dict[str, JSON]]:
        """Returns items that have arrived.

        Args:
            at_least: waits for this many; 0 never waits. Fewer are returned only if no more will come.
            at_most: leaves the rest for the next call; None returns all that have arrived.

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
        """Sends one result to the parent, at once."""
        self._write({"result": dict(result)})

    def fail(self, error: UserError) -> None:
        """Makes the parent raise this error."""
        # A private subclass is sent as the public class that it derives from.
        kind = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in errors.__all__)
        self._write({"error": {"kind": kind, "problem": error.problem, "valid": error.valid, "hint": error.hint}})

    def _write(self, message: Mapping[str, JSON]) -> None:
        self._results.write(json.dumps(message, allow_nan=True).encode() + b"\n")
        self._results.flush()


@contextlib.contextmanager
def open_channel() -> Iterator[WorkerChannel]:
    """Opens the worker's side of the pipes. Call it before anything heavy is imported.

    The parent's `stream` raises a `UserError` that is raised inside. Any other exception ends the worker with its
    traceback, and the parent shows the last lines of it.
    """
    results = int(os.environ.pop(RESULTS))
    # Only this process may hold the pipes, not the processes that an engine starts.
    os.set_inheritable(results, False)
    requests = os.dup(0)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    _die_with_parent()
    channel = WorkerChannel(os.fdopen(requests, "rb"), os.fdopen(results, "wb"))
    try:
        yield channel
    except UserError as error:
        channel.fail(error)
        sys.exit(2)


def _die_with_parent() -> None:
    parent = os.environ.pop(PARENT, None)
    if parent is None:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        os._exit(1)
