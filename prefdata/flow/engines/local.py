"""The local engine: carries a stage job out in this process, and says what another engine may do elsewhere.

The tasks of all pending shards are streamed through one worker. The worker (a sampler or scorer) sees one endless
stream, so a model stays busy across shard borders. Every result is journalled the moment it is known. A shard is
written once all its results are there, by a thread of its own: meanwhile results are taken and tasks are handed out,
however long a table takes to be encoded or a disk to be written.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from prefdata.errors import ConservationError, InputError
from prefdata.flow.jobs import ShardJob, StageJob, TaskJob, WholeJob
from prefdata.flow.journal import Journal
from prefdata.flow.progress import Progress
from prefdata.flow.results import check_storable, failures_in, tokens_in
from prefdata.models.endpoint.spending import Spending
from prefdata.models.pool import Pool, PoolSpec
from prefdata.spec import JSON, Context, WorkerPool

__all__ = ["Engine", "Local", "Machines", "carry_out", "make_here", "run_tasks"]

Task = TypeVar("Task")
Result = TypeVar("Result")

Argument = TypeVar("Argument")

_SYNC_SECONDS = 1.0
_BACKLOG = 8


def make_here(job: ShardJob, shards: Sequence[int]) -> None:
    """Makes shards one after the other, in this process."""
    for shard in shards:
        job.make(shard)


@dataclass(frozen=True)
class Machines:
    """Where models run and shards are made. Everything else of a stage happens in the process of the build."""

    start: Callable[[PoolSpec, Mapping[str, JSON] | None], WorkerPool] = Pool
    """Starts the workers of a model; see `prefdata.spec.Engines`."""
    make_shards: Callable[[ShardJob, Sequence[int]], None] = make_here
    """Makes some shards of a job that is prepared; what is made is kept when it fails."""


class Engine(Protocol):
    """Carries the stages of a build out; it is never part of a recipe, and changes no byte."""

    def opened(self, folder: Path) -> AbstractContextManager[Machines]:
        """Gets the machines ready for the build in `folder`, and releases them in the end."""


class Local:
    """Carries everything out on this machine."""

    @contextmanager
    def opened(self, folder: Path) -> Iterator[Machines]:
        """Gives this machine."""
        yield Machines()


def carry_out(
    job: StageJob,
    context: Context,
    *,
    complete: Callable[[], None] = lambda: None,
    make_shards: Callable[[ShardJob, Sequence[int]], None] = make_here,
) -> None:
    """Carries out what no earlier run has finished of a stage, and marks the stage as finished.

    Args:
        job: the stage's work.
        context: of the job's part: see `StageJob.context`.
        complete: called when all tables are there, before the stage is marked.
        make_shards: see `Machines`.

    Raises:
        ConservationError: rows went missing, or a worker left a task unanswered or answered one twice.
        KeyboardInterrupt: with what is kept.
        UserError: what the part raises; what was finished so far is kept.
    """
    job.folder.create()
    if isinstance(job, WholeJob):
        report = job.run(context)
    elif isinstance(job, ShardJob):
        prepared = job.prepared()
        make_shards(prepared, [shard for shard in job.tables.shards if not job.folder.shard(shard).exists()])
        report = prepared.report()
    elif isinstance(job, TaskJob):
        spent = context.spending.money if isinstance(context.spending, Spending) else dict
        with Progress.of(job.name, job.total, job.unit, spent) as progress:
            try:
                run_tasks(job, context, progress)
            except KeyboardInterrupt as stop:
                raise KeyboardInterrupt(f"{progress.done:,} of {job.total:,} {job.unit} kept") from stop
        report = job.report()
    else:
        raise TypeError(f"a {type(job).__name__} is not a job that this engine knows")
    complete()
    job.folder.finish(report)


def run_tasks(job: TaskJob[Task, Result], context: Context, progress: Progress) -> None:
    """Carries out the tasks of every shard that is not written yet.

    Args:
        job: the stage's work.
        context: of the job's part.
        progress: advances with every result.

    Raises:
        ConservationError: the worker left a task unanswered, or answered one twice.
    """
    pending = []
    for shard in job.shards:
        if job.folder.shard(shard).exists():
            job.folder.journal(shard).close(remove=True)
        else:
            pending.append(shard)
    run = _Pass(job, context, progress, (len(job.shards) - len(pending), len(job.shards)))
    try:
        _stream(run, pending)
    finally:
        run.close()
    if run.open:
        raise ConservationError(f"{job.folder.path.name}: {len(run.open)} tasks were never answered")


class _Shard(Generic[Result]):
    """A shard under way."""

    def __init__(self, number: int, keys: Sequence[str], journal: Journal) -> None:
        self.number, self.keys, self.journal = number, keys, journal
        self.results: dict[str, Result] = {}

    @property
    def complete(self) -> bool:
        return len(self.results) == len(self.keys)


class _Pass(Generic[Task, Result]):
    """One pass over the pending shards of a stage."""

    def __init__(
        self, job: TaskJob[Task, Result], context: Context, progress: Progress, shards: tuple[int, int]
    ) -> None:
        self.job, self.progress = job, progress
        self._shards_done, self._n_shards = shards
        progress.shards(*shards)
        self.context = replace(context, counted=self._counted)
        self._count = context.counted
        self._reused = 0
        """Results that were taken from the store since the last task was finished."""
        self.folder = job.folder
        self.open: dict[str, tuple[_Shard[Result], Task]] = {}
        """Key of every unanswered task → its shard, and the task."""
        self.complete: list[_Shard[Result]] = []
        self.journals: set[Journal] = set()
        """Those that were appended to and whose shards are not complete."""
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="prefdata-writer")
        self.writing: deque[Future[None]] = deque()
        """Writes that were handed to the writer and are not known to be finished."""
        # Engines may pull tasks from a thread of their own while results arrive on this one.
        self.lock = threading.Lock()
        self.synced = time.monotonic()

    def _counted(self, what: str, count: int) -> None:
        self._reused += count if what == "reused" else 0
        self._count(what, count)

    def pull(self, shards: Iterable[int]) -> Iterator[Task]:
        for number in shards:
            tasks = self.job.tasks(number)
            shard, unanswered = self._resume(number, tasks)
            with self.lock:
                if shard.complete:
                    self.complete.append(shard)
                for task in unanswered:
                    self.open[self.job.task_key(task)] = (shard, task)
            yield from unanswered

    def _resume(self, number: int, tasks: Sequence[Task]) -> tuple[_Shard[Result], list[Task]]:
        """Gives the shard with what its journal holds, and the tasks that it doesn't hold."""
        keys = [self.job.task_key(task) for task in tasks]
        shard: _Shard[Result] = _Shard(number, keys, self.folder.journal(number))
        wanted, unusable = set(keys), 0
        for record in shard.journal.read():
            try:
                check_storable(record)
                result = self.job.load(record)
            except (ValueError, KeyError, TypeError, AttributeError):
                unusable += 1
                continue
            if (key := self.job.result_key(result)) in wanted:
                shard.results[key] = result
        if unusable := unusable + shard.journal.damaged:
            self.context.log(
                f"{shard.journal.path}: {unusable} damaged {'line is' if unusable == 1 else 'lines are'} passed over; "
                f"what {'it' if unusable == 1 else 'they'} held is asked again, and nothing else"
            )
        self.progress.advance(sum(map(self.job.count, shard.results.values())), fresh=False)
        return shard, [task for task, key in zip(tasks, keys, strict=True) if key not in shard.results]

    def take(self, result: Result) -> None:
        key = self.job.result_key(result)
        with self.lock:
            waiting = self.open.pop(key, None)
        if waiting is None:
            stage = self.folder.path.name
            raise ConservationError(f"{stage}: an answer to {key!r}, which was not asked or is answered")
        shard, task = waiting
        self.job.check(task, result)
        record = self.job.dump(result)
        try:
            check_storable(record)
        except ValueError as error:
            raise InputError(
                f"{self.folder.path.name}: the answer to {key!r} can't be kept: {error}",
                valid="texts of Unicode, finite numbers, whole numbers below 2⁶³",
                hint="fix the part that gave it, and run again: finished answers are kept",
            ) from error
        self.journals.add(shard.journal)
        shard.journal.append(record)
        shard.results[key] = result
        self.progress.advance(
            self.job.count(result), fresh=not self._reused, tokens=tokens_in(record), failures=failures_in(record)
        )
        self._reused = 0
        if shard.complete:
            with self.lock:
                self.complete.append(shard)
        if time.monotonic() - self.synced > _SYNC_SECONDS:
            self._write(self._sync, list(self.journals))
            self.synced = time.monotonic()

    def write_complete(self) -> None:
        """Hands complete shards to the writer, and raises the errors of earlier ones."""
        while self.complete:
            with self.lock:
                shard = self.complete.pop(0)
            self._shards_done += 1
            self.progress.shards(self._shards_done, self._n_shards)
            self.journals.discard(shard.journal)
            self._write(self._write_shard, shard)
        while self.writing and self.writing[0].done():
            self.writing.popleft().result()

    def _write(self, act: Callable[[Argument], None], argument: Argument) -> None:
        # A disk that is slower than the worker must stop it in the end: memory holds what is not written.
        while len(self.writing) >= _BACKLOG:
            self.writing.popleft().result()
        self.writing.append(self.writer.submit(act, argument))

    def _write_shard(self, shard: _Shard[Result]) -> None:
        written = False
        try:
            self.job.write(shard.number, [shard.results[key] for key in shard.keys])
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
        # A shard that was handed to the writer is worth the wait, also after an error elsewhere.
        self.writer.shutdown(wait=True)
        for journal in self.journals:
            journal.close()


def _stream(run: _Pass[Task, Result], pending: Iterable[int]) -> None:
    # Without unanswered tasks the worker, perhaps a large model, is never started.
    tasks = run.pull(pending)
    first = next(tasks, None)
    if first is not None:
        results = run.job.run(chain([first], tasks), run.context)
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
