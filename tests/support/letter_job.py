"""A stage job whose tasks are texts and whose results are the same texts in upper case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from prefdata.flow.disk import write_json
from prefdata.flow.jobs import TaskJob
from prefdata.flow.stage_tables import StageTables
from prefdata.flow.store import StageFolder
from prefdata.spec import JSON, Context

NOWHERE = StageFolder(Path())
NO_TABLES = StageTables("letters", NOWHERE, (), None, {}, NOWHERE)


@dataclass(frozen=True, kw_only=True)
class LetterJob(TaskJob[str, str]):
    """Lets a function answer the tasks of given shards; shards are JSON files."""

    name: str = "letters"
    seed: int = 0
    tables: StageTables = NO_TABLES
    letters: Mapping[int, Sequence[str]]
    """Shard → its tasks."""
    start: Callable[[Iterable[str]], Iterable[str]]
    """The worker."""
    write_shard: Callable[[int, Sequence[str]], None] | None = None
    """Writes a shard in place of the job."""

    @property
    def unit(self) -> str:
        return "letters"

    @property
    def shards(self) -> Sequence[int]:
        return list(self.letters)

    def tasks(self, shard: int) -> Sequence[str]:
        return self.letters[shard]

    def task_key(self, task: str) -> str:
        return task

    def run(self, tasks: Iterable[str], context: Context) -> Iterator[str]:
        return cast("Iterator[str]", self.start(tasks))

    def result_key(self, result: str) -> str:
        return result.lower()

    def dump(self, result: str) -> JSON:
        return {"result": result}

    def load(self, record: JSON) -> str:
        return str(record["result"])

    def write(self, shard: int, results: Sequence[str]) -> None:
        if self.write_shard is not None:
            self.write_shard(shard, results)
        else:
            write_json(self.folder.shard(shard), list(results))

    def report(self) -> JSON:
        return {}
