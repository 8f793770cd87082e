"""The local engine: streams the tasks of all pending shards through one worker, and writes shards as they complete.

The worker (a sampler or scorer) sees one endless stream, so a model stays busy across shard borders. Every result is
journalled the moment it is known; a shard is written once all its results are there, by a thread of its own: meanwhile
results are taken and tasks are handed out, however long a table takes to be encoded or a disk to be written.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

from prefdata.errors import ConservationError
from prefdata.flow.progress import Progress
from prefdata.flow.store import Journal, StageFolder
from prefdata.spec import JSON

__all__ = ["Work", "run_stage"]

Task = TypeVar("Task")
Result = TypeVar("Result")

Argument = TypeVar("Argument")

_SYNC_SECONDS = 1.0
_BACKLOG = 8


@dataclass(frozen=True)
class Work(Generic[Task, Result]):
    """What a stage does with the tasks of its shards."""

    tasks: Callable[[int], Sequence[Task]]
    """The tasks of a shard, in the order in which they are asked."""
    key_of_task: Callable[[Task], str]
    """Unique within the stage."""
    run: Callable[[Iterable[Task]], Iterator[Result]]
    """Carries tasks out, each exactly once, in any order."""
    key_of_result: Callable[[Result], str]
    """The key of the task that a result answers."""
    dump: Callable[[Result], JSON]
    """A result as JSON, for the journal."""
    load: Callable[[JSON], Result]
    """Back from JSON."""
    write: Callable[[int, Sequence[Result]], None]
    """Writes a complete shard; results come in the order of its tasks. Called from another thread, one at a time."""
    count: Callable[[Result], int] = lambda _result: 1
    """What a result counts in the progress."""
    check: Callable[[Task, Result], None] = lambda _task, _result: None
    """Raises `ConservationError` for a result that doesn't account for its task, before it is journalled."""


class _Shard(Generic[Result]):
    """A shard under way."""

    def __init__(self, number: int, keys: Sequence[str], journal: Journal) -> None:
        self.number, self.keys, self.journal = number, keys, journal
        self.results: dict[str, Result] = {}

    @property
    def complete(self) -> bool:
        return len(self.results) == len(self.keys)


class _Run(Generic[Task, Result]):
    """One pass over the pending shards of a stage."""

    def __init__(self, work: Work[Task, Result], stage: StageFolder, progress: Progress) -> None:
        self.work, self.stage, self.progress = work, stage, progress
        self.open: dict[str, tuple[_Shard[Result], Task]] = {}
        """Key of every unanswered task → its shard, and the task."""
        self.complete: list[_Shard[Result]] = []
        self.journals: set[Journal] = set()
        """Those that were appended to and whose shards are not complete."""
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="prefdata-writer")
        self.writing: deque[Future[None]] = deque()
        """What the writer was given and has not been seen to finish."""
        # Engines may pull tasks from a thread of their own while results arrive on this one.
        self.lock = threading.Lock()
        self.synced = time.monotonic()

    def pull(self, shards: Iterable[int]) -> Iterator[Task]:
        for number in shards:
            tasks = self.work.tasks(number)
            shard, unanswered = self._resume(number, tasks)
            with self.lock:
                if shard.complete:
                    self.complete.append(shard)
                for task in unanswered:
                    self.open[self.work.key_of_task(task)] = (shard, task)
            yield from unanswered

    def _resume(self, number: int, tasks: Sequence[Task]) -> tuple[_Shard[Result], list[Task]]:
        """The shard with what its journal holds, and the tasks that it doesn't."""
        keys = [self.work.key_of_task(task) for task in tasks]
        shard: _Shard[Result] = _Shard(number, keys, self.stage.journal(number))
        known = set(keys)
        for record in shard.journal.read():
            result = self.work.load(record)
            if (key := self.work.key_of_result(result)) in known:
                shard.results[key] = result
        self.progress.advance(sum(map(self.work.count, shard.results.values())), fresh=False)
        return shard, [task for task, key in zip(tasks, keys, strict=True) if key not in shard.results]

    def take(self, result: Result) -> None:
        key = self.work.key_of_result(result)
        with self.lock:
            waiting = self.open.pop(key, None)
        if waiting is None:
            raise ConservationError(f"{self.stage.path.name}: an answer to {key!r}, which was not asked or is answered")
        shard, task = waiting
        self.work.check(task, result)
        self.journals.add(shard.journal)
        shard.journal.append(self.work.dump(result))
        shard.results[key] = result
        self.progress.advance(self.work.count(result))
        if shard.complete:
            with self.lock:
                self.complete.append(shard)
        if time.monotonic() - self.synced > _SYNC_SECONDS:
            self._write(self._sync, list(self.journals))
            self.synced = time.monotonic()

    def write_complete(self) -> None:
        """Hands complete shards to the writer, and raises what it met with."""
        while self.complete:
            with self.lock:
                shard = self.complete.pop(0)
            self.journals.discard(shard.journal)
            self._write(self._write_shard, shard)
        while self.writing and self.writing[0].done():
            self.writing.popleft().result()

    def _write(self, act: Callable[[Argument], None], what: Argument) -> None:
        # A disk that is slower than the engine must stop it at last: memory holds what is not written.
        while len(self.writing) >= _BACKLOG:
            self.writing.popleft().result()
        self.writing.append(self.writer.submit(act, what))

    def _write_shard(self, shard: _Shard[Result]) -> None:
        written = False
        try:
            self.work.write(shard.number, [shard.results[key] for key in shard.keys])
            written = True
        finally:
            shard.journal.close(remove=written)

    def _sync(self, journals: Sequence[Journal]) -> None:
        for journal in journals:
            journal.sync()

    def finish(self) -> None:
        """Waits until every complete shard is written."""
        self.write_complete()
        while self.writing:
            self.writing.popleft().result()

    def close(self) -> None:
        # A shard that the writer has begun or was given is worth the wait, also after an error elsewhere.
        self.writer.shutdown(wait=True)
        for journal in self.journals:
            journal.close()


def run_stage(work: Work[Task, Result], stage: StageFolder, shards: Iterable[int], progress: Progress) -> None:
    """Carries out every shard that is not written yet.

    Args:
        work: what to do.
        stage: where shards and journals are.
        shards: numbers of all shards.
        progress: is told of every result.

    Raises:
        ConservationError: the worker left a task unanswered, or answered one twice.
    """
    pending = []
    for number in shards:
        if stage.shard(number).exists():
            stage.journal(number).close(remove=True)
        else:
            pending.append(number)
    run = _Run(work, stage, progress)
    try:
        _carry_out(run, pending)
    finally:
        run.close()
    if run.open:
        raise ConservationError(f"{stage.path.name}: {len(run.open)} tasks were never answered")


def _carry_out(run: _Run[Task, Result], pending: Iterable[int]) -> None:
    # Without unanswered tasks the worker, perhaps a large model, is never started.
    tasks = run.pull(pending)
    first = next(tasks, None)
    if first is not None:
        results = run.work.run(chain([first], tasks))
        try:
            for result in results:
                run.take(result)
                run.write_complete()
        finally:
            if isinstance(results, Generator):
                results.close()
        # What the worker never pulled: shards that are all in their journals, or tasks that it left out.
        for _ in tasks:
            continue
    run.finish()
