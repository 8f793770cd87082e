"""Shards are written while tasks go on: a slow disk keeps no engine waiting, and what it refuses is an error."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
from letter_job import LetterJob

from prefdata.errors import StoreError
from prefdata.flow.disk import write_json
from prefdata.flow.engines import local
from prefdata.flow.engines.local import run_tasks
from prefdata.flow.progress import Progress
from prefdata.flow.store import StageFolder

SHARDS = {number: [f"{number}-{letter}" for letter in "abc"] for number in range(30)}
GUARD_S = 120.0
"""What a test waits for has come long before this, or never will."""
WHOLE = {number: [task.upper() for task in tasks] for number, tasks in SHARDS.items()}


class Disk:
    """Writes shards, and waits or fails where a test wants it."""

    def __init__(self, folder: Path) -> None:
        self.folder = StageFolder(folder)
        self.folder.create()
        self.gate = threading.Event()
        self.gate.set()
        self.refuses: set[int] = set()
        self.begun: list[int] = []
        self.first_begun = threading.Event()

    def write(self, shard: int, results: Sequence[str]) -> None:
        self.begun.append(shard)
        self.first_begun.set()
        assert self.gate.wait(GUARD_S)
        if shard in self.refuses:
            raise StoreError(f"shard {shard} can't be written: the disk is full")
        write_json(self.folder.shard(shard), list(results))

    def run(self, worker) -> None:
        job = LetterJob(folder=self.folder, letters=SHARDS, start=worker, write_shard=self.write)
        with Progress.of("letters", 90, "letters") as progress:
            run_tasks(job, job.context(), progress)

    def shards(self) -> dict[int, list[str]]:
        paths = {number: self.folder.shard(number) for number in SHARDS}
        return {number: json.loads(path.read_text()) for number, path in paths.items() if path.exists()}

    def journals(self) -> list[str]:
        return sorted(path.name for path in self.folder.path.glob("journal-*"))


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path / "stage")


def test_work_goes_on_while_a_shard_is_being_written(disk):
    disk.gate.clear()
    answered = 0

    def worker(tasks: Iterable[str]) -> Iterator[str]:
        nonlocal answered
        for task in tasks:
            if task == "3-b":
                # Three shards are complete and not one is written.
                assert disk.first_begun.wait(GUARD_S)
                assert disk.begun == [0] and disk.shards() == {}
                assert disk.journals() == [f"journal-0000{shard}.jsonl" for shard in range(4)]
                disk.gate.set()
            yield task.upper()
            answered += 1

    disk.run(worker)
    assert answered == 90
    assert disk.begun == sorted(SHARDS)
    assert disk.shards() == WHOLE
    assert disk.journals() == []


def test_a_disk_that_falls_behind_stops_the_work_at_last(disk, monkeypatch):
    disk.gate.clear()
    taken: list[str] = []
    waits, wait = threading.Event(), Future.result

    def noted(future: Future[None], timeout: float | None = None) -> None:
        if not future.done():
            waits.set()
        wait(future, timeout)

    # Only shards are given to the writer, however long this takes.
    monkeypatch.setattr(local, "_SYNC_SECONDS", float("inf"))
    monkeypatch.setattr(Future, "result", noted)

    def worker(tasks: Iterable[str]) -> Iterator[str]:
        for task in tasks:
            taken.append(task)
            yield task.upper()

    thread = threading.Thread(target=disk.run, args=(worker,))
    thread.start()
    assert waits.wait(GUARD_S)
    behind = len(taken)
    disk.gate.set()
    thread.join()
    assert 3 * local._BACKLOG <= behind <= 3 * (local._BACKLOG + 2)
    assert disk.shards() == WHOLE


def test_what_the_disk_refuses_stops_the_work_and_loses_no_answer(disk):
    disk.refuses = {1}
    taken: list[str] = []

    def worker(tasks: Iterable[str]) -> Iterator[str]:
        for task in tasks:
            taken.append(task)
            yield task.upper()

    with pytest.raises(StoreError, match="shard 1 can't be written"):
        disk.run(worker)
    before = set(taken)
    assert 6 <= len(before) < 90
    assert 1 not in disk.shards() and 0 in disk.shards()
    # Every answer is in a shard or in a journal: the next run asks for none of them again.
    disk.refuses, taken[:] = set(), []
    disk.run(worker)
    assert disk.shards() == WHOLE
    assert before.isdisjoint(taken) and len(before) + len(taken) == 90


def test_the_last_shard_that_can_not_be_written_is_told_too(disk):
    disk.refuses = {29}
    with pytest.raises(StoreError, match="shard 29"):
        disk.run(lambda tasks: (task.upper() for task in tasks))
    assert disk.shards().keys() == SHARDS.keys() - {29}
    assert disk.journals() == ["journal-00029.jsonl"]


def test_after_an_error_of_the_engine_complete_shards_are_still_written(disk):
    disk.gate.clear()

    def worker(tasks: Iterable[str]) -> Iterator[str]:
        for task in tasks:
            if task == "2-b":
                threading.Timer(0.2, disk.gate.set).start()
                raise RuntimeError("the engine broke")
            yield task.upper()

    with pytest.raises(RuntimeError, match="the engine broke"):
        disk.run(worker)
    assert disk.shards() == {number: WHOLE[number] for number in (0, 1)}
    assert disk.journals() == ["journal-00002.jsonl"]
