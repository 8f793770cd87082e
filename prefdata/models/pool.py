"""`Pool`: the worker processes of one stream, on this machine."""

from __future__ import annotations

import select
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from prefdata.models.worker_process import WorkerProcess
from prefdata.spec import JSON, canonical_json

__all__ = ["Pool", "PoolSpec"]


@dataclass(frozen=True)
class PoolSpec:
    """What the workers of a stream are."""

    module: str
    """Import path of the worker."""
    config: Mapping[str, JSON]
    """What a worker reads as `WorkerChannel.config`."""
    environments: tuple[Mapping[str, str], ...]
    """Environment variables of each worker, besides the few that workers get of this process."""
    name: str
    """Names the workers in messages."""
    in_flight: int
    """Most unanswered items of one worker."""
    gpus: int = 1
    """GPUs that one worker uses, where there are any."""

    @property
    def key(self) -> str:
        """Names everything that workers must share to take each other's place."""
        return canonical_json(
            [self.module, dict(self.config), list(map(dict, self.environments)), self.name, self.in_flight]
        )

    def name_of(self, number: int, of: int) -> str:
        """Names one worker, counted from 1, in messages."""
        return self.name if of == 1 else f"{self.name} (replica {number} of {of})"


class Pool:
    """The workers of one stream.

    Args:
        spec: what they are.
        round_options: what workers that read rounds are told of the first one.
    """

    def __init__(self, spec: PoolSpec, round_options: Mapping[str, JSON] | None) -> None:
        self._spec = spec
        self._unstarted = list(spec.environments)
        """Environment variables of the workers that are not started yet."""
        self._workers: list[WorkerProcess] = []
        self._last: WorkerProcess | None = None
        self._round = round_options

    @property
    def waiting(self) -> int:
        """Number of items that are not answered."""
        return sum(worker.waiting for worker in self._workers)

    @property
    def broken(self) -> bool:
        """True once a worker is known to be gone; nothing is sent any more."""
        return any(worker.broken for worker in self._workers)

    def begin(self, options: Mapping[str, JSON] | None) -> bool:
        """Begins a round of items; returns whether all workers that were started still run."""
        self._round, self._last = options, None
        for worker in self._workers:
            self._send_round(worker)
        return not any(worker.broken or worker.ended() for worker in self._workers)

    def _send_round(self, worker: WorkerProcess) -> None:
        if self._round is not None:
            worker.send({"round": dict(self._round)})

    def has_room(self) -> bool:
        """Returns whether any worker can take an item."""
        return bool(self._unstarted) or any(worker.waiting < self._spec.in_flight for worker in self._workers)

    def send(self, item: Mapping[str, JSON], *, to_last: bool) -> None:
        """Sends an item; with `to_last`, to the same worker as the last one if that has room."""
        if self._last is None or not to_last or self._last.waiting >= self._spec.in_flight:
            self._last = self._least_loaded()
        self._last.waiting += 1
        self._last.send({"item": dict(item)})

    def _least_loaded(self) -> WorkerProcess:
        if self._unstarted:
            name = self._spec.name_of(len(self._workers) + 1, len(self._spec.environments))
            worker = WorkerProcess(self._spec.module, self._unstarted.pop(0), name)
            self._workers.append(worker)
            worker.send({"config": dict(self._spec.config)})
            self._send_round(worker)
            return worker
        return min(self._workers, key=lambda worker: worker.waiting)

    def end(self) -> None:
        """Says that the round has no more items."""
        for worker in self._workers:
            worker.send({"end": True})

    def has_result(self) -> bool:
        """Returns whether a result can be received without waiting."""
        return any(worker.lines for worker in self._workers) or self._read(timeout=0)

    def receive(self) -> dict[str, JSON]:
        """Returns the next result of any worker that has unanswered items.

        Raises:
            UserError: a worker reported one.
            ModelError: a worker died.
        """
        while True:
            for worker in self._workers:
                if worker.answered:
                    worker.waiting -= 1
                    return worker.take()
            for worker in self._workers:
                if worker.lines:
                    worker.take()
                if worker.eof and worker.waiting:
                    raise worker.death()
            if not self._read(timeout=1000):
                # A process forked by a worker can hold its end of the pipe open, so its death need not close the pipe.
                dead = [worker for worker in self._workers if worker.waiting and (worker.broken or worker.ended())]
                if dead and not self._read(timeout=0):
                    raise dead[0].death()

    def _read(self, timeout: int) -> bool:
        """Reads the results that are there, waiting up to `timeout` ms; returns whether a worker sent anything."""
        poll = select.poll()
        listening = {worker.results: worker for worker in self._workers if not worker.eof}
        for results in listening:
            poll.register(results, select.POLLIN)
        news = [listening[results].read() for results, _ in (poll.poll(timeout) if listening else ())]
        return any(news)

    def close(self) -> None:
        """Ends the workers and all processes that they started, and waits until their memory is free."""
        # All get the signal before the first is waited for.
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self._workers:
            worker.close()
