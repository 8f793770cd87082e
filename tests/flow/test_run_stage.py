"""The local engine: tasks in, results journalled, shards written when complete; and who gets the blame."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pytest
from letter_job import LetterJob

from prefdata.errors import ConservationError
from prefdata.flow.engines.local import run_tasks
from prefdata.flow.progress import Progress
from prefdata.flow.store import StageFolder

SHARDS = {0: ["a", "b", "c"], 1: ["d"], 2: [], 3: ["e", "f"]}


@dataclass
class Stage:
    """A stage whose results are upper-case letters, and what is known of it."""

    folder: StageFolder
    started: int = 0
    asked: list[str] = field(default_factory=list)
    told: list[int] = field(default_factory=list)

    def run(self, worker: Callable[[Iterator[str]], Iterable[str]], shards: dict[int, list[str]] = SHARDS) -> None:
        def start(tasks: Iterable[str]) -> Iterator[str]:
            self.started += 1
            yield from worker(self._noted(tasks))

        job = LetterJob(folder=self.folder, letters=shards, start=start)
        with Progress.of("letters", 6, "letters") as progress:
            run_tasks(job, job.context(), progress)

    def _noted(self, tasks: Iterable[str]) -> Iterator[str]:
        for task in tasks:
            self.asked.append(task)
            yield task

    def shards(self) -> dict[int, list[str]]:
        paths = {number: self.folder.shard(number) for number in SHARDS}
        return {number: json.loads(path.read_text()) for number, path in paths.items() if path.exists()}

    def journals(self) -> dict[str, list[str]]:
        return {
            path.name: [record["result"] for record in self.folder.journal(int(path.stem[-5:])).read()]
            for path in sorted(self.folder.path.glob("journal-*"))
        }

    def keep(self, shard: int, *results: str) -> None:
        journal = self.folder.journal(shard)
        for result in results:
            journal.append({"result": result})
        journal.close()


WHOLE = {number: [letter.upper() for letter in letters] for number, letters in SHARDS.items()}


@pytest.fixture
def stage(tmp_path):
    found = Stage(StageFolder(tmp_path / "stage"))
    found.folder.create()
    return found


def in_order(tasks: Iterator[str]) -> Iterator[str]:
    return (task.upper() for task in tasks)


def backwards(tasks: Iterator[str]) -> list[str]:
    return [task.upper() for task in tasks][::-1]


@pytest.mark.parametrize("worker", [in_order, backwards])
def test_a_shard_holds_the_results_in_the_order_of_its_tasks_whatever_order_they_come_in(stage, worker):
    stage.run(worker)
    assert stage.shards() == WHOLE
    assert stage.journals() == {}
    assert stage.asked == list("abcdef")


def test_a_second_run_starts_no_worker_and_rewrites_nothing(stage):
    stage.run(in_order)
    before = {path.name: path.stat().st_ino for path in stage.folder.path.iterdir()}
    stage.run(in_order)
    assert stage.started == 1
    assert {path.name: path.stat().st_ino for path in stage.folder.path.iterdir()} == before


def test_when_every_task_is_journalled_no_worker_is_started(stage):
    for shard, letters in SHARDS.items():
        stage.keep(shard, *(letter.upper() for letter in reversed(letters)))
    stage.run(in_order)
    assert stage.started == 0
    assert stage.shards() == WHOLE
    assert stage.journals() == {}


def test_only_what_no_journal_holds_is_asked(stage):
    stage.keep(0, "B")
    stage.keep(3, "F")
    stage.run(backwards)
    assert stage.asked == ["a", "c", "d", "e"]
    assert stage.shards() == WHOLE


def test_a_shard_that_is_all_in_the_journal_is_written_although_a_worker_asks_no_further(stage):
    stage.keep(3, "E", "F")

    def exactly_four(tasks):
        for _ in range(4):
            yield next(tasks).upper()

    stage.run(exactly_four)
    assert stage.shards() == WHOLE


def test_the_journal_of_a_shard_that_is_written_is_removed(stage):
    stage.run(in_order)
    stage.keep(0, "A")
    stage.run(in_order)
    assert stage.journals() == {}


def test_a_journalled_answer_to_something_that_is_no_task_any_more_is_ignored(stage):
    stage.keep(0, "Z", "B")
    stage.run(in_order)
    assert stage.shards() == WHOLE
    assert stage.asked == list("acdef")


def test_what_was_answered_before_an_error_is_journalled_and_taken_by_the_next_run(stage):
    def breaks(tasks):
        for task in tasks:
            if task == "e":
                raise RuntimeError("the engine broke")
            if task != "b":
                yield task.upper()

    with pytest.raises(RuntimeError, match="the engine broke"):
        stage.run(breaks)
    assert stage.journals() == {"journal-00000.jsonl": ["A", "C"]}
    assert stage.shards().keys() == {1}
    stage.asked.clear()
    stage.run(in_order)
    assert stage.asked == ["b", "e", "f"]
    assert stage.shards() == WHOLE


def test_the_worker_is_closed_when_the_run_is_interrupted(stage):
    closed = []

    def worker(tasks):
        try:
            yield next(tasks).upper()
            yield "not asked"
        finally:
            closed.append(True)

    with pytest.raises(ConservationError):
        stage.run(worker)
    assert closed == [True]


@pytest.mark.parametrize(
    ("worker", "problem"),
    [
        (lambda tasks: [*in_order(tasks), "Z"], "an answer to 'z', which was not asked"),
        (lambda tasks: [*in_order(tasks), "A"], "an answer to 'a', which was not asked or is answered"),
        (lambda tasks: list(in_order(tasks))[:-1], "1 tasks were never answered"),
        (lambda tasks: list(in_order(tasks))[1:], "1 tasks were never answered"),
        (lambda tasks: [next(tasks).upper()], "5 tasks were never answered"),
        (lambda tasks: [], "6 tasks were never answered"),
    ],
    ids=["unknown", "twice", "last missing", "first missing", "stops after one", "answers nothing"],
)
def test_an_answer_too_many_or_too_few_is_a_conservation_error(stage, worker, problem):
    with pytest.raises(ConservationError, match=problem):
        stage.run(worker)


def test_an_answer_that_a_journal_holds_may_not_be_given_again(stage):
    stage.keep(0, "A")
    with pytest.raises(ConservationError, match="an answer to 'a'"):
        stage.run(lambda tasks: ["A", *in_order(tasks)])
    assert stage.journals()["journal-00000.jsonl"] == ["A"]


def test_tasks_are_pulled_one_by_one_as_the_worker_asks(stage):
    loaded = []

    class Lazy(dict):
        def __getitem__(self, shard):
            loaded.append(shard)
            return super().__getitem__(shard)

    steps = []

    def worker(tasks):
        for task in tasks:
            steps.append((task, len(stage.asked), list(loaded)))
            yield task.upper()

    stage.run(worker, Lazy(SHARDS))
    # The first task is looked at before the worker starts; after that each shard is loaded when its first task is due.
    assert steps == [
        ("a", 1, [0]),
        ("b", 2, [0]),
        ("c", 3, [0]),
        ("d", 4, [0, 1]),
        ("e", 5, [0, 1, 2, 3]),
        ("f", 6, [0, 1, 2, 3]),
    ]


def test_an_engine_may_pull_tasks_from_a_thread_of_its_own(tmp_path):
    shards = {number: [f"{number}-{letter}" for letter in "abcdefgh"] for number in range(60)}
    stage = Stage(StageFolder(tmp_path))

    def threaded(tasks):
        done: queue.Queue[str | None] = queue.Queue()

        def pull():
            for task in tasks:
                done.put(task.upper())
            done.put(None)

        thread = threading.Thread(target=pull)
        thread.start()
        while (result := done.get()) is not None:
            yield result
        thread.join()

    stage.run(threaded, shards)
    for number, letters in shards.items():
        assert json.loads(stage.folder.shard(number).read_text()) == [letter.upper() for letter in letters]
    assert stage.journals() == {}


def test_two_tasks_of_one_key_are_no_reason_to_lose_one_in_silence(stage):
    with pytest.raises(ConservationError):
        stage.run(in_order, {0: ["a", "a"]})


def test_progress_tells_fresh_results_from_kept_ones(stage, capsys):
    stage.keep(0, "A", "B")
    stage.run(in_order)
    assert "6/6" in capsys.readouterr().err
