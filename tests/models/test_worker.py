"""The worker channel: results stream, deaths are told, nothing is left behind. All with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from prefdata.errors import MissingExtraError, ModelError
from prefdata.models.worker import KeptWorkers, stream

ROOT = str(Path(__file__).resolve().parents[2])
GUARD_S = 120.0
"""What a test waits for has come long before this, or never will."""

TOY = """
import os, signal, subprocess, sys, time
from prefdata.errors import MissingExtraError
from prefdata.models.worker import open_channel

with open_channel() as channel:
    size = channel.config.get("batch", 1)
    while not os.path.exists(channel.config.get("gate", "/")):
        time.sleep(0.01)
    while items := channel.receive(at_least=size, at_most=size):
        for item in items:
            print("to standard output:", item["n"])
            act = item.get("act")
            if act == "die":
                print("these are my last words", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            if act == "raise":
                raise RuntimeError("the engine broke")
            if act == "user":
                raise MissingExtraError("the package 'x' is missing", valid="y", hint="pip install x")
            if act == "orphan":
                if os.fork() == 0:
                    time.sleep(600)
                os._exit(7)
            if act == "hang":
                time.sleep(600)
            told = {"n": item["n"], "pid": os.getpid(), "batch": len(items), "stdin": sys.stdin.read()}
            if act == "family":
                # Like an engine's process for a device, at work when the end comes.
                deaf, told_deaf = os.pipe()
                child = os.fork()
                if child == 0:
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)
                    os.write(told_deaf, b"!")
                    time.sleep(600)
                    os._exit(0)
                os.read(deaf, 1)
                told["child"] = child
            told |= {"who": os.environ.get("WHO"), "long": "x" * channel.config.get("long", 0)}
            channel.send(told)
            if "marks" in channel.config:
                with open(os.path.join(channel.config["marks"], str(item["n"])), "x") as mark:
                    mark.write(str(os.getpid()))
"""

PARENT = """
import sys, threading
from prefdata.models.worker import stream

def items():
    yield {"n": 0}
    yield {"n": 1, "act": "hang"}

def run():
    for result in stream("toy_worker", {}, items(), in_flight=1):
        print(result["pid"], flush=True)

if sys.argv[1] == "thread":
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
else:
    run()
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Makes the toy worker importable here, and gives the environment of its workers."""
    (tmp_path / "toy_worker.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    return {}


def gone(pid: int) -> bool:
    """Returns whether the process has ended; a zombie has ended too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def comes(true: Callable[[], bool]) -> bool:
    """Waits until something is true; gives up when it never will be."""
    until = time.monotonic() + GUARD_S
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return true()


def test_every_item_is_answered_once_and_pulled_only_as_there_is_room(toy):
    pulled: list[int] = []
    ahead: list[int] = []

    def items():
        for n in range(30):
            pulled.append(n)
            yield {"n": n}

    answered = []
    for result in stream("toy_worker", {}, items(), in_flight=3, env=toy):
        answered.append(result["n"])
        ahead.append(len(pulled) - len(answered))
    assert answered == list(range(30))
    assert max(ahead) <= 2
    assert ahead[0] <= 2 < 29


def test_a_finished_result_comes_out_before_a_slow_source_gives_its_next_item(toy, tmp_path):
    def items():
        yield {"n": 0}
        # The source is slower than the worker.
        assert comes((tmp_path / "0").exists)
        yield {"n": 1}
        released.append(True)
        yield {"n": 2}

    released: list[bool] = []
    results = stream("toy_worker", {"marks": str(tmp_path)}, items(), in_flight=100, env=toy)
    first = next(results)
    assert first["n"] == 0
    assert not released
    assert [result["n"] for result in results] == [1, 2]


def test_a_worker_waits_for_full_batches_and_takes_the_rest_at_the_end(toy):
    results = list(stream("toy_worker", {"batch": 4}, ({"n": n} for n in range(10)), in_flight=8, env=toy))
    assert [result["batch"] for result in results] == [4] * 8 + [2] * 2


def test_prints_of_the_engine_do_not_reach_the_results_and_its_standard_input_is_empty(toy):
    assert [r["stdin"] for r in stream("toy_worker", {}, [{"n": 0}], in_flight=1, env=toy)] == [""]


def test_nothing_is_started_for_no_items():
    assert list(stream("no_such_module", {}, [], in_flight=1)) == []


def test_a_killed_worker_is_a_model_error_with_its_last_words(toy):
    results = stream("toy_worker", {}, [{"n": 0}, {"n": 1, "act": "die"}], in_flight=1, env=toy, name="the toy")
    next(results)
    with pytest.raises(ModelError) as caught:
        next(results)
    assert "the toy was ended by SIGKILL" in caught.value.problem
    assert "these are my last words" in caught.value.problem
    assert "memory" in str(caught.value.hint)


def test_an_exception_in_the_worker_is_a_model_error_with_its_traceback(toy):
    with pytest.raises(ModelError, match=r"exit status 1[\s\S]*RuntimeError: the engine broke"):
        list(stream("toy_worker", {}, [{"n": 0, "act": "raise"}], in_flight=1, env=toy))


def test_a_module_that_is_not_there_is_a_model_error():
    with pytest.raises(ModelError, match="No module named"):
        list(stream("no_such_module", {}, ({"n": n} for n in range(1000)), in_flight=1000))


def test_a_user_error_in_the_worker_is_the_same_error_here(toy):
    with pytest.raises(MissingExtraError) as caught:
        list(stream("toy_worker", {}, [{"n": 0, "act": "user"}], in_flight=1, env=toy))
    assert (caught.value.problem, caught.value.valid, caught.value.hint) == (
        "the package 'x' is missing",
        "y",
        "pip install x",
    )


def test_a_death_is_noticed_though_a_child_of_the_worker_holds_the_pipe(toy):
    begun = time.monotonic()
    with pytest.raises(ModelError, match="exit status 7"):
        list(stream("toy_worker", {}, [{"n": 0, "act": "orphan"}], in_flight=1, env=toy))
    # The child holds the pipe for ten minutes.
    assert time.monotonic() - begun < GUARD_S


def test_closing_early_ends_the_worker(toy):
    results = stream("toy_worker", {}, [{"n": 0}, {"n": 1, "act": "hang"}], in_flight=1, env=toy)
    pid = next(results)["pid"]
    assert not gone(pid)
    results.close()
    assert gone(pid)


@pytest.mark.parametrize(
    ("where", "sign"), [("main", signal.SIGKILL), ("thread", signal.SIGKILL), ("main", signal.SIGINT)]
)
def test_a_worker_does_not_outlive_its_parent(toy, tmp_path, where, sign):
    (tmp_path / "parent.py").write_text(PARENT)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((ROOT, str(tmp_path)))}
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), where],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.send_signal(sign)
        parent.wait(timeout=GUARD_S)
        assert comes(lambda: gone(pid))


def test_several_workers_share_the_items_and_what_belongs_together_stays_together(toy):
    items = [{"n": n, "group": n // 3} for n in range(24)]
    environments = [{"WHO": "a"}, {"WHO": "b"}]
    results = list(
        stream(
            "toy_worker",
            {},
            items,
            in_flight=6,
            env=toy,
            replicas=environments,
            together=lambda item: item["group"],
        )
    )
    assert sorted(result["n"] for result in results) == list(range(24))
    workers = {result["pid"]: result["who"] for result in results}
    assert sorted(workers.values()) == ["a", "b"]
    # The first six items are sent before any answer: one group to each.
    of = {result["n"]: result["who"] for result in results}
    assert [of[n] for n in range(6)] == ["a"] * 3 + ["b"] * 3


def test_no_more_workers_are_started_than_there_are_items(toy):
    results = list(stream("toy_worker", {}, [{"n": 0}], in_flight=6, env=toy, replicas=[{"WHO": "a"}, {"WHO": "b"}]))
    assert [result["who"] for result in results] == ["a"]


def test_every_worker_has_room_of_its_own(toy, tmp_path):
    pulled, gate = 0, tmp_path / "gate"

    def items():
        nonlocal pulled
        for n in range(12):
            pulled += 1
            if pulled == 9:
                # No worker answers before all have their three items.
                gate.touch()
            yield {"n": n}

    config = {"batch": 3, "gate": str(gate)}
    results = stream("toy_worker", config, items(), in_flight=3, env=toy, replicas=[{}, {}, {}])
    assert next(results)["batch"] == 3
    assert pulled == 9
    assert len(list(results)) == 11


@pytest.mark.parametrize("how", ["die", "raise", "user"])
def test_the_death_of_any_worker_is_the_error_of_all_and_ends_the_others(toy, tmp_path, how):
    gate = tmp_path / "gate"

    def items():
        # The first worker hangs on its second item; the second one goes.
        yield from ({"n": 0}, {"n": 1}, {"n": 2, "act": "hang"})
        gate.touch()
        yield {"n": 3, "act": how}

    config = {"gate": str(gate)}
    results = stream("toy_worker", config, items(), in_flight=2, env=toy, replicas=[{}, {}], name="the toy")
    with pytest.raises(MissingExtraError if how == "user" else ModelError) as caught:
        list(results)
    if how != "user":
        assert "the toy (replica 2 of 2)" in caught.value.problem
    assert running("toy_worker") == []


def running(module: str) -> list[int]:
    """The children of this process that run a module."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state not in "ZX" and module in (stat.parent / "cmdline").read_text():
                found.append(int(stat.parent.name))
    return found


def test_closing_ends_what_the_worker_had_started_too(toy):
    results = stream("toy_worker", {}, [{"n": 0, "act": "family"}, {"n": 1, "act": "hang"}], in_flight=1, env=toy)
    first = next(results)
    assert not gone(first["child"])
    assert running("toy_worker") == [first["pid"]]
    results.close()
    assert gone(first["pid"]) and gone(first["child"])


def test_a_worker_need_not_wait_while_the_parent_is_busy(toy, tmp_path):
    """A quarter of a megabyte of results that are not taken: the worker has sent all of them."""
    gate, marks = tmp_path / "gate", tmp_path / "marks"
    marks.mkdir()

    def items():
        yield from ({"n": n} for n in range(32))
        gate.touch()
        yield {"n": 32}

    config = {"long": 8192, "gate": str(gate), "marks": str(marks)}
    results = stream("toy_worker", config, items(), in_flight=33, env=toy)
    next(results)
    assert comes((marks / "32").exists)
    assert len(list(results)) == 32


def test_what_was_answered_before_a_death_comes_out_before_the_error(toy, tmp_path):
    """Also what another worker had answered, and what was not read when the next item could not be handed over."""
    gate, marks = tmp_path / "gate", tmp_path / "marks"
    marks.mkdir()

    def items():
        yield from ({"n": n} for n in range(8))
        yield {"n": 8, "act": "die"}
        # Both workers have answered and the first has died before anything of theirs is read.
        gate.touch()
        assert comes(lambda: len(list(marks.iterdir())) == 8)
        assert comes(lambda: gone(int((marks / "0").read_text())))
        yield {"n": 9}

    answered = []
    config = {"gate": str(gate), "marks": str(marks)}
    with pytest.raises(ModelError, match="replica 1 of 2"):
        for result in stream("toy_worker", config, items(), in_flight=20, env=toy, replicas=[{}, {}]):
            # The last answer of the second worker and the end of the first one's pipe are there at the same time.
            assert comes((marks / "9").exists)
            answered.append(result["n"])
    assert sorted(answered) == [*range(8), 9]


ROUNDS = """
import os
from prefdata.models.worker import open_channel

with open_channel() as channel:
    for options in channel.rounds():
        while items := channel.receive():
            for item in items:
                if item == {"act": "die"}:
                    os._exit(3)
                channel.send({**item, **options, "pid": os.getpid()})
"""


@pytest.fixture
def rounds(tmp_path, monkeypatch):
    (tmp_path / "rounds_worker.py").write_text(ROUNDS)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(items, name, kept, **config):
        started = []
        results = stream(
            *("rounds_worker", config, items),
            in_flight=2,
            round_options={"name": name},
            kept=kept,
            started=lambda: started.append(name),
        )
        return list(results), bool(started)

    return run


def test_workers_that_are_kept_serve_the_next_stream_with_its_options(rounds):
    kept = KeptWorkers()
    try:
        one, first = rounds([{"n": 1}, {"n": 2}, {"n": 3}], "one", kept)
        two, second = rounds([{"n": 1}], "two", kept)
        assert (first, second) == (True, False)
        assert [(each["n"], each["name"]) for each in (*one, *two)] == [(1, "one"), (2, "one"), (3, "one"), (1, "two")]
        (worker,) = {each["pid"] for each in (*one, *two)}
        # Another configuration is another engine, which starts when the first has ended.
        (other,), third = rounds([{"n": 1}], "three", kept, size=2)
        assert third
        assert other["pid"] != worker
        assert not _runs(worker)
    finally:
        kept.close()
    assert not _runs(other["pid"])


def test_a_kept_worker_that_has_died_is_started_again(rounds):
    kept = KeptWorkers()
    try:
        (one,), _ = rounds([{"n": 1}], "one", kept)
        os.kill(one["pid"], signal.SIGKILL)
        until = time.monotonic() + GUARD_S
        # Its threads and the process end one after the other, and hold its pipes until all have.
        threads = Path(f"/proc/{one['pid']}/task")
        while (_runs(one["pid"]) or len(list(threads.glob("*"))) > 1) and time.monotonic() < until:
            time.sleep(0.01)
        (two,), started = rounds([{"n": 1}], "two", kept)
        assert started
        assert two["pid"] != one["pid"]
        with pytest.raises(ModelError, match="exit"):
            rounds([{"act": "die"}], "three", kept)
        (four,), started = rounds([{"n": 1}], "four", kept)
        assert started
    finally:
        kept.close()
    assert not _runs(four["pid"])


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
