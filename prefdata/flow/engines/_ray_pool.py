"""The workers of one stream on a Ray cluster: an actor for each, which holds a worker process on its node.

The process of the build sends items and takes results as it does with workers of its own (`prefdata.models.pool`). An
actor that is lost with its node costs the items that it had: they are sent to another one.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from prefdata.errors import EngineError, ModelError, UserError, first_line
from prefdata.flow.progress import say
from prefdata.models.pool import PoolSpec
from prefdata.models.worker_process import WorkerProcess
from prefdata.spec import JSON

__all__ = ["Hand", "RayPool"]

_POLL_SECONDS = 1.0
_MOST_LOSSES = 3
"""Actors that may be lost in one place, one after the other, without any result between."""
_CLOSE_SECONDS = 20.0
_PATIENCE_SECONDS = 60.0
"""How long actors may take to start before that is said."""


class Hand:
    """An actor: a worker process on its node. `feed` and `poll` run in two threads."""

    def __init__(self) -> None:
        self._worker: WorkerProcess | None = None

    def start(self, module: str, env: Mapping[str, str], name: str, folder: str | None) -> tuple[str, UserError | None]:
        """Starts the process.

        Args:
            module: import path of the worker.
            env: its own environment variables.
            name: names it in messages.
            folder: of the model.

        Returns:
            The node's name, and what is wrong, if anything is.
        """
        node = os.uname().nodename
        if folder is not None and not Path(folder).is_dir():
            return node, EngineError(
                f"the node {node!r} has no folder {folder!r}, where the model of {name} is",
                valid="models at the same path on every node",
                hint="put HF_HOME (or the model's folder) on a file system that all nodes share, or copy it to each",
            )
        _drop_threads_of_ray()
        try:
            self._worker = WorkerProcess(module, env, name)
        except UserError as error:
            return node, error
        return node, None

    def feed(self, messages: Sequence[Mapping[str, JSON]]) -> None:
        """Sends messages to the process, in order."""
        assert self._worker is not None
        for message in messages:
            self._worker.send(message)

    def poll(self) -> tuple[list[dict[str, JSON]], bool]:
        """Waits up to a second for messages of the process; returns them, and whether it has ended."""
        worker = self._worker
        assert worker is not None
        if not self._read(_POLL_SECONDS) and worker.ended():
            # A process forked by a worker can hold its end of the pipe open.
            while self._read(0) and not worker.eof:
                continue
            worker.eof = True
        while not worker.eof and self._read(0):
            continue
        lines = list(worker.lines)
        worker.lines.clear()
        return lines, worker.eof

    def _read(self, seconds: float) -> bool:
        worker = self._worker
        assert worker is not None
        if worker.eof or not select.select([worker.results], [], [], seconds)[0]:
            return False
        worker.read()
        return True

    def death(self) -> ModelError:
        """Gives the error for a process that ended before its work was done."""
        assert self._worker is not None
        return self._worker.death()

    def close(self) -> None:
        """Ends the process, and waits until its memory is free."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def _drop_threads_of_ray() -> None:
    """Leaves a worker as many threads as it has on one machine, or as the node's own environment says.

    Ray sets `OMP_NUM_THREADS` to the CPUs that it has set aside for the actor, where its node has no such variable.
    """
    with contextlib.suppress(OSError):
        of_node = Path(f"/proc/{os.getppid()}/environ").read_bytes().split(b"\0")
        if not any(variable.startswith(b"OMP_NUM_THREADS=") for variable in of_node):
            os.environ.pop("OMP_NUM_THREADS", None)


class _Remote:
    """An actor as the process of the build knows it."""

    def __init__(self, actor: Any, spec: PoolSpec, number: int, name: str, losses: int) -> None:
        self.actor, self.number, self.name = actor, number, name
        self.losses = losses
        """Actors that were lost in its place, one after the other, since the last result."""
        folder, env = spec.config.get("folder"), dict(spec.environments[0])
        self.starting: Any = actor.start.remote(spec.module, env, name, folder)
        self.polling: Any = None
        self.feeding: Any = None
        self.outbox: list[dict[str, JSON]] = []
        self.unanswered: dict[JSON, Mapping[str, JSON]] = {}
        """Key of each item that was sent and is not answered → the item."""
        self.ended = False
        """Whether it was told that the round has no more items."""

    @property
    def ready(self) -> bool:
        return self.starting is None

    @property
    def calls(self) -> list[Any]:
        return [call for call in (self.starting, self.polling, self.feeding) if call is not None]

    def put(self, message: dict[str, JSON]) -> None:
        self.outbox.append(message)

    def put_item(self, item: Mapping[str, JSON]) -> None:
        self.unanswered[item["key"]] = item
        self.put({"item": dict(item)})

    def flush(self) -> None:
        # One call at a time keeps the order.
        if self.ready and self.feeding is None and self.outbox:
            self.feeding = self.actor.feed.remote(self.outbox)
            self.outbox = []


class RayPool:
    """The workers of one stream; a `prefdata.spec.WorkerPool`.

    Args:
        spec: what they are. Each item and its result must have the same `key`.
        round_options: see `prefdata.models.pool.Pool`.
        actors: how many workers.
        make: makes an actor that is a `Hand`; it starts when the cluster has room for it.
    """

    def __init__(
        self, spec: PoolSpec, round_options: Mapping[str, JSON] | None, actors: int, make: Callable[[], Any]
    ) -> None:
        import ray

        self._ray, self._spec, self._round, self._make = ray, spec, round_options, make
        self._wanted = actors
        self._remotes: list[_Remote] = []
        self._again: deque[Mapping[str, JSON]] = deque()
        """Items of actors that were lost."""
        self._results: deque[dict[str, JSON]] = deque()
        self._error: UserError | None = None
        self._last: _Remote | None = None
        self._ended = False

    @property
    def waiting(self) -> int:
        """Number of items that are not answered."""
        return len(self._results) + len(self._again) + sum(len(remote.unanswered) for remote in self._remotes)

    @property
    def broken(self) -> bool:
        """True once nothing is to be sent any more."""
        return self._error is not None

    def begin(self, options: Mapping[str, JSON] | None) -> bool:
        """Begins a round of items; returns whether every worker still runs."""
        self._round, self._last, self._ended = options, None, False
        self._pump(0)
        for remote in self._remotes:
            self._open_round(remote)
        return self._error is None and len(self._remotes) == self._wanted

    def has_room(self) -> bool:
        """Returns whether any worker can take an item; the first time, waits for the workers to start."""
        while len(self._remotes) < self._wanted and not self._ended:
            taken = {remote.number for remote in self._remotes}
            self._add(next(number for number in count(1) if number not in taken))
        self._pump(0)
        if not self.waiting:
            self._await_workers(_PATIENCE_SECONDS if self._last is None else 0.0)
        if self._error is not None and not self.waiting:
            raise self._error
        return self._error is None and not self._again and bool(self._free())

    def _await_workers(self, patience: float) -> None:
        """Waits until all workers have started, or some have and the others take long: or the first takes all items."""
        began, said = time.monotonic(), False
        while self._error is None and not all(remote.ready for remote in self._remotes):
            if any(remote.ready for remote in self._remotes) and time.monotonic() - began >= patience:
                return
            self._pump(_POLL_SECONDS)
            if not said and time.monotonic() - began >= _PATIENCE_SECONDS:
                said = True
                say(f"Ray: {self._spec.name} waits until the cluster has room for it (`ray status` shows who has it)")

    def send(self, item: Mapping[str, JSON], *, to_last: bool) -> None:
        """Sends an item; with `to_last`, to the same worker as the last one if that has room."""
        free = self._free()
        if self._last is None or not to_last or self._last not in free:
            self._last = min(free, key=lambda remote: len(remote.unanswered))
        self._last.put_item(item)
        self._last.flush()

    def end(self) -> None:
        """Says that the round has no more items."""
        self._ended = True
        for remote in self._remotes:
            self._close_round(remote)

    def has_result(self) -> bool:
        """Returns whether a result can be received without waiting; `has_room` has looked a moment ago."""
        return bool(self._results)

    def receive(self) -> dict[str, JSON]:
        """Returns the next result of any worker.

        Raises:
            UserError: a worker reported one.
            ModelError: a worker died.
            EngineError: actors are lost again and again.
        """
        while not self._results:
            if self._error is not None:
                raise self._error
            self._pump(_POLL_SECONDS)
        return self._results.popleft()

    def close(self) -> None:
        """Ends the workers, and waits until their memory is free."""
        closing = [remote.actor.close.remote() for remote in self._remotes if remote.ready]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_SECONDS)
        for remote in self._remotes:
            self._ray.kill(remote.actor)
        self._remotes = []

    def _free(self) -> list[_Remote]:
        room = self._spec.in_flight
        return [remote for remote in self._remotes if remote.ready and len(remote.unanswered) < room]

    def _add(self, number: int, losses: int = 0) -> None:
        remote = _Remote(self._make(), self._spec, number, self._spec.name_of(number, self._wanted), losses)
        remote.put({"config": dict(self._spec.config)})
        self._open_round(remote)
        self._remotes.append(remote)

    def _open_round(self, remote: _Remote) -> None:
        remote.ended = False
        if self._round is not None:
            remote.put({"round": dict(self._round)})
            remote.flush()

    def _close_round(self, remote: _Remote) -> None:
        remote.ended = True
        remote.put({"end": True})
        remote.flush()

    def _pump(self, seconds: float) -> None:
        """Takes what the actors have sent, waiting up to some seconds for the first, and sends what is to be sent."""
        calls = [call for remote in self._remotes for call in remote.calls]
        if not calls:
            return
        done, _ = self._ray.wait(calls, num_returns=1, timeout=seconds)
        if done:
            done, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        finished = set(done)
        for remote in list(self._remotes):
            for call in [call for call in remote.calls if call in finished]:
                self._take(remote, call)
        self._send_again()

    def _take(self, remote: _Remote, call: Any) -> None:
        """Takes one finished call of an actor."""
        if remote not in self._remotes:
            return
        try:
            value = self._ray.get(call)
            if call is remote.polling and value[1] and len(remote.unanswered) > _n_results(value[0]):
                self._error = self._error or _reported(value[0]) or self._ray.get(remote.actor.death.remote())
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError) as error:
            self._lose(remote, error)
            return
        if call is remote.starting:
            remote.starting = None
            _, self._error = value if self._error is None else (None, self._error)
            if self._error is None:
                remote.polling = remote.actor.poll.remote()
        elif call is remote.feeding:
            remote.feeding = None
        else:
            lines, ended = value
            self._read(remote, lines)
            remote.polling = None if ended else remote.actor.poll.remote()
        remote.flush()

    def _read(self, remote: _Remote, lines: Sequence[dict[str, JSON]]) -> None:
        for line in lines:
            if "result" in line and remote.unanswered.pop(line["result"]["key"], None) is not None:
                self._results.append(line["result"])
                remote.losses = 0
        self._error = self._error or _reported(lines)

    def _lose(self, remote: _Remote, error: Exception) -> None:
        """Gives the items of a lost actor back, and asks the cluster for another actor."""
        self._remotes.remove(remote)
        # One that is out of reach for a while would keep its devices, for which the next one waits.
        self._ray.kill(remote.actor)
        self._last = None if self._last is remote else self._last
        losses = remote.losses + 1
        if losses > _MOST_LOSSES:
            self._error = self._error or EngineError(
                f"{losses} actors of {self._spec.name} were lost one after the other without any result; "
                f"the last time: {first_line(error)}",
                hint="see the cluster's logs (`ray logs`): a node that kills actors has often run out of memory",
            )
            return
        n_items = len(remote.unanswered)
        say(f"Ray: {remote.name} was lost with its node or actor; {n_items} unanswered items are asked again")
        self._again.extend(remote.unanswered.values())
        if not self._ended or self._again:
            self._add(remote.number, losses)

    def _send_again(self) -> None:
        """Sends the items of lost actors to workers that still take any."""
        takers = [remote for remote in self._remotes if remote.ready and not remote.ended]
        while self._again and takers:
            min(takers, key=lambda remote: len(remote.unanswered)).put_item(self._again.popleft())
        for remote in takers:
            remote.flush()
            if self._ended and not self._again:
                self._close_round(remote)
        if self._again and self._ended:
            # A worker that has answered everything gives its place to the one that takes its neighbour's items.
            for remote in [each for each in self._remotes if each.ended and not each.unanswered]:
                self._remotes.remove(remote)
                self._ray.kill(remote.actor)


def _n_results(lines: Sequence[Mapping[str, JSON]]) -> int:
    return sum("result" in line for line in lines)


def _reported(lines: Sequence[Mapping[str, JSON]]) -> UserError | None:
    """Gives the error that a worker has reported, if it has."""
    return next((WorkerProcess.error_of(line["error"]) for line in lines if "error" in line), None)
