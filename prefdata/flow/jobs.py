"""`StageJob`: the work of one stage as plain data, which any engine can carry to another process.

A job holds no open file, lock, closure or model. The process that carries it out makes the live `Context`
(`StageJob.context`) and the model behind its part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from prefdata.flow.stage_tables import StageTables
from prefdata.flow.store import StageFolder
from prefdata.spec import JSON, Account, Context, Engines, Store

__all__ = ["ShardJob", "StageJob", "TaskJob", "WholeJob"]

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class StageJob(ABC):
    """The work of one stage. A subclass adds the part that does it."""

    name: str
    """The stage's name."""
    folder: StageFolder
    """Where the stage's tables and journals are."""
    seed: int
    """The recipe's seed."""
    pins: Mapping[str, JSON] = field(default_factory=dict)
    """What the lock says of the part."""

    def context(
        self,
        log: Callable[[str], None] | None = None,
        counted: Callable[[str, int], None] | None = None,
        spending: Account | None = None,
        store: Store | None = None,
        engines: Engines | None = None,
    ) -> Context:
        """Makes the context of the part, in the process that carries the job out."""
        callables: dict[str, Any] = {"log": log, "counted": counted}
        given = {name: call for name, call in callables.items() if call}
        return Context(self.seed, self.pins, spending=spending, store=store, engines=engines, **given)


@dataclass(frozen=True, kw_only=True)
class WholeJob(StageJob):
    """A stage that must see everything at once."""

    @abstractmethod
    def run(self, context: Context) -> JSON:
        """Writes all tables of the stage.

        Returns:
            The stage's report.
        """


@dataclass(frozen=True, kw_only=True)
class ShardJob(StageJob):
    """A stage that makes each shard of the same shard of its inputs."""

    tables: StageTables
    """The stage's inputs."""

    def prepared(self) -> Self:
        """Gives the job with what must be known of all shards at once; called before any shard is made, once."""
        return self

    @abstractmethod
    def make(self, shard: int) -> None:
        """Makes one shard; it appears whole."""

    @abstractmethod
    def report(self) -> JSON:
        """Counts the finished shards: the stage's report."""


@dataclass(frozen=True, kw_only=True)
class TaskJob(StageJob, Generic[Task, Result]):
    """A stage whose shards give tasks to one worker: a sampler or a scorer. Results are journalled one by one."""

    tables: StageTables
    """The stage's inputs."""

    @property
    def unit(self) -> str:
        """Names what the progress counts."""
        return "prompts"

    @property
    def shards(self) -> Sequence[int]:
        """Numbers of all shards."""
        return self.tables.shards

    @property
    def total(self) -> int:
        """How much there is to do, in `unit`."""
        return self.tables.n_prompts

    @abstractmethod
    def tasks(self, shard: int) -> Sequence[Task]:
        """Lists the tasks of a shard, in the order in which they are asked."""

    @abstractmethod
    def task_key(self, task: Task) -> str:
        """Names a task; unique within the stage."""

    @abstractmethod
    def run(self, tasks: Iterable[Task], context: Context) -> Iterator[Result]:
        """Carries tasks out, each exactly once, in any order."""

    @abstractmethod
    def result_key(self, result: Result) -> str:
        """Gives the key of the task that a result answers."""

    @abstractmethod
    def dump(self, result: Result) -> JSON:
        """Gives a result as JSON, for the journal."""

    @abstractmethod
    def load(self, record: JSON) -> Result:
        """Reads a result from its journal record."""

    @abstractmethod
    def write(self, shard: int, results: Sequence[Result]) -> None:
        """Writes a complete shard. Called from another thread, one shard at a time.

        Args:
            shard: its number.
            results: in the order of the shard's tasks.
        """

    def count(self, result: Result) -> int:
        """Says how much of `total` a result is."""
        return 1

    def check(self, task: Task, result: Result) -> None:
        """Checks that a result accounts for its task, before it is journalled.

        Raises:
            ConservationError: it does not.
        """

    @abstractmethod
    def report(self) -> JSON:
        """Counts the finished shards: the stage's report."""
