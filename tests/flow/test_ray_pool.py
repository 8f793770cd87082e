"""Workers on real Ray nodes: every item is answered once, whatever is lost, and every failure has one message."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray_nodes import Nodes, ray_nodes

from prefdata.errors import EngineError, MissingExtraError, ModelError
from prefdata.flow.engines import ray as ray_engine
from prefdata.flow.engines._ray_pool import RayPool, _drop_threads_of_ray
from prefdata.flow.engines.local import Machines
from prefdata.flow.engines.ray import Ray, _ray
from prefdata.models.pool import PoolSpec
from prefdata.models.worker import KeptWorkers, stream

PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}

TOY = """
import os, sys, time
from prefdata.errors import MissingExtraError
from prefdata.models.worker import open_channel

with open_channel() as channel:
    for options in channel.rounds():
        while items := channel.receive(at_least=channel.config.get("batch", 1), at_most=channel.config.get("batch", 1)):
            for item in items:
                if item.get("act") == "die":
                    print("these are my last words", file=sys.stderr, flush=True)
                    os._exit(7)
                if item.get("act") == "user":
                    raise MissingExtraError("the package 'x' is missing", valid="y", hint="pip install x")
                time.sleep(item.get("seconds", 0))
                if item.get("act") == "lose":
                    os.kill(os.getppid(), 9)
                raylet = os.popen(f"ps -o ppid= -p {os.getppid()}").read().strip()
                seen = {name: os.environ.get(name) for name in ("HF_TOKEN", "OMP_NUM_THREADS")}
                pids = {"pid": os.getpid(), "actor": os.getppid(), "raylet": raylet}
                channel.send({"key": item["key"], **pids, **seen, **options})
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy_worker.py").write_text(TOY)
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(folder))
        patched.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep))
        patched.setenv("HF_TOKEN", "hf_secret")
        with ray_nodes(1) as nodes:
            yield nodes


@pytest.fixture
def machines(nodes, tmp_path) -> Iterator[Machines]:
    with Ray(address=nodes.address, actors=2).opened(tmp_path) as machines:
        yield machines


def run(machines: Machines, items: list[dict], **options) -> list[dict]:
    engines = KeptWorkers(machines.start)
    try:
        given = {"in_flight": 4, "round_options": {"round": 1}, "kept": engines, **options}
        return list(stream("toy_worker", given.pop("config", {}), items, **given))
    finally:
        engines.close()


def test_items_are_answered_once_by_workers_on_both_nodes_without_a_token(machines):
    results = run(machines, [{"key": n} for n in range(60)])
    assert sorted(result["key"] for result in results) == list(range(60))
    assert len({result["raylet"] for result in results}) == 2
    assert {(result["round"], result["HF_TOKEN"]) for result in results} == {(1, None)}
    # Nodes of this process have its environment; Ray would set the CPUs that it sets aside.
    assert {result["OMP_NUM_THREADS"] for result in results} == {os.environ.get("OMP_NUM_THREADS")}


@pytest.mark.parametrize(("of_node", "kept"), [({}, None), ({"OMP_NUM_THREADS": "3"}, "3")])
def test_threads_that_a_node_sets_are_kept_and_those_that_ray_sets_are_not(of_node, kept, monkeypatch):
    plain = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with subprocess.Popen(["cat"], env={**plain, **of_node}, bufsize=0, **PIPES) as raylet:
        # A process that answers has its environment.
        raylet.stdin.write(b"?")
        assert raylet.stdout.read(1) == b"?"
        monkeypatch.setattr(os, "getppid", lambda: raylet.pid)
        monkeypatch.setenv("OMP_NUM_THREADS", of_node.get("OMP_NUM_THREADS", "1"))
        _drop_threads_of_ray()
        assert os.environ.get("OMP_NUM_THREADS") == kept


def test_consecutive_items_of_one_prompt_go_to_one_worker_that_has_room(machines):
    items = [{"key": n, "prompt": n // 4} for n in range(40)]
    results = run(machines, items, together=lambda item: item["prompt"], in_flight=64)
    workers: dict[int, set[int]] = {}
    for result in results:
        workers.setdefault(result["key"] // 4, set()).add(result["pid"])
    assert [len(pids) for pids in workers.values()] == [1] * 10


def test_a_batch_that_is_not_full_is_answered_at_the_end(machines):
    results = run(machines, [{"key": n} for n in range(5)], config={"batch": 4}, in_flight=8)
    assert sorted(result["key"] for result in results) == list(range(5))


def test_workers_that_are_kept_serve_the_next_stream(machines):
    engines, pids = KeptWorkers(machines.start), []
    try:
        for round_number in (1, 2):
            options = {"round": round_number}
            items = [{"key": n} for n in range(8)]
            results = list(stream("toy_worker", {}, items, in_flight=4, round_options=options, kept=engines))
            assert {result["round"] for result in results} == {round_number}
            pids.append({result["pid"] for result in results})
        assert pids[0] == pids[1]
    finally:
        engines.close()


def test_a_lost_node_costs_what_its_worker_had_and_nothing_else(nodes, machines, capsys):
    items, results = [{"key": n, "seconds": 0.1} for n in range(30)], []
    engines = KeptWorkers(machines.start)
    raylets = set()
    try:
        for result in stream("toy_worker", {}, items, in_flight=3, round_options={"round": 1}, kept=engines):
            results.append(result["key"])
            raylets.add(result["raylet"])
            # Both have a worker by now, and each worker has items.
            if len(raylets) == 2 and nodes.workers:
                nodes.kill(nodes.workers[0])
    finally:
        engines.close()
        nodes.add()
    assert sorted(results) == list(range(30))
    # One that takes its place may be put on the lost node too, before the cluster misses that, and has no items.
    lost = re.findall(
        r"was lost with its node or actor; (\d+) unanswered items are asked again", capsys.readouterr().err
    )
    assert 1 <= sum(map(int, lost)) <= 3


def test_the_only_worker_is_lost_after_the_last_item_was_sent(nodes, tmp_path):
    node = nodes.add(num_cpus=2)
    with Ray(address=nodes.address, actors=1, cpus=2).opened(tmp_path) as machines:
        engines = KeptWorkers(machines.start)
        items = [{"key": n, "seconds": 0.3} for n in range(6)]
        results, again = [], None
        for result in stream("toy_worker", {}, items, in_flight=6, round_options={"round": 1}, kept=engines):
            results.append(result["key"])
            if len(results) == 2:
                nodes.kill(node)
                again = nodes.add(num_cpus=2)
        engines.close()
        assert sorted(results) == list(range(6))
        nodes.kill(again)


def test_a_node_with_many_workers_is_lost_and_costs_their_items_only(nodes, tmp_path, capsys):
    node = nodes.add(num_cpus=6)
    try:
        with Ray(address=nodes.address, actors=6, cpus=0.5).opened(tmp_path) as machines:
            engines, actors, results = KeptWorkers(machines.start), set[int](), []
            items = [{"key": n, "seconds": 0.2} for n in range(60)]
            for result in stream("toy_worker", {}, items, in_flight=3, round_options={"round": 1}, kept=engines):
                results.append(result["key"])
                actors.add(result["actor"])
                if len(actors) == 6:
                    # Before the cluster sees the first loss, so that no result comes between two of them.
                    for actor in actors:
                        os.kill(actor, 9)
                    actors.add(0)
            engines.close()
    finally:
        nodes.kill(node)
    assert sorted(results) == list(range(60))
    assert capsys.readouterr().err.count("was lost with its node or actor") == 6


def test_an_item_that_costs_every_actor_its_life_ends_the_stream_and_no_answer_comes_twice(machines):
    # It takes longer than the answer before it takes to arrive.
    items, results = [{"key": n, **({"act": "lose", "seconds": 2} if n == 3 else {})} for n in range(20)], []
    engines = KeptWorkers(machines.start)
    try:
        with pytest.raises(
            EngineError, match=r"4 actors of toy_worker were lost one after the other without any result; "
        ):
            results.extend(
                result["key"] for result in stream("toy_worker", {}, items, in_flight=2, round_options={}, kept=engines)
            )
    finally:
        engines.close()
    assert len(results) == len({*results} - {3})


def test_actors_that_are_lost_before_they_start_end_the_stream(monkeypatch):
    errors, made = _ray().exceptions, []

    def lost(call):
        raise errors.RayActorError

    # A cluster on which each actor's node is lost before the actor runs.
    cluster = SimpleNamespace(wait=lambda calls, **_: (calls, []), get=lost, kill=lambda actor: None, exceptions=errors)
    monkeypatch.setitem(sys.modules, "ray", cluster)
    start = SimpleNamespace(remote=lambda *_: object())
    spec = PoolSpec("toy_worker", {}, ({},), "toy_worker", in_flight=4)
    pool = RayPool(spec, None, 2, lambda: made.append(None) or SimpleNamespace(start=start))
    with pytest.raises(EngineError, match=r"4 actors of toy_worker were lost one after the other without any result; "):
        pool.has_room()
    assert 4 <= len(made) <= 8


def test_a_shard_that_no_node_can_make_is_one_message(nodes, tmp_path, monkeypatch):
    class Fatal:
        def __reduce__(self):
            return os._exit, (1,)

    (tmp_path / "prefdata.lock.json").touch()
    monkeypatch.setattr(ray_engine, "_pickled", lambda job: pickle.dumps(Fatal()))
    with (
        Ray(address=nodes.address).opened(tmp_path) as machines,
        pytest.raises(EngineError, match="a shard of pairs could not be made on any node"),
    ):
        machines.make_shards(SimpleNamespace(), [0])


def test_an_error_of_a_worker_is_raised_as_it_is(machines):
    with pytest.raises(MissingExtraError, match="the package 'x' is missing"):
        run(machines, [{"key": n, "act": "user" if n == 3 else ""} for n in range(8)])


def test_a_worker_that_dies_is_named_with_its_last_lines(machines):
    with pytest.raises(ModelError, match=r"(?s)exit status 7.*these are my last words"):
        run(machines, [{"key": n, "act": "die" if n == 3 else ""} for n in range(8)])


def test_no_process_is_left_when_the_stream_is_given_up(machines):
    engines = KeptWorkers(machines.start)
    items = ({"key": n} for n in range(10_000))
    results = stream("toy_worker", {}, items, in_flight=4, round_options={}, kept=engines)
    pid = next(results)["pid"]
    results.close()
    engines.close()
    until = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_a_model_that_a_node_does_not_have_is_named(machines, tmp_path):
    with pytest.raises(EngineError, match="has no folder '/nowhere/model'"):
        run(machines, [{"key": 1}], config={"folder": "/nowhere/model"})


@pytest.mark.parametrize("engine", [Ray(actors=5), Ray(actors=1, cpus=2.5), Ray(actors=1, gpus=1)], ids=str)
def test_more_than_the_cluster_has_is_refused(nodes, tmp_path, engine):
    asked = {name: getattr(engine, name) for name in ("actors", "cpus", "gpus")}
    with (
        Ray(address=nodes.address, **asked).opened(tmp_path) as machines,
        pytest.raises(EngineError, match=r"each on one node; the cluster has room for [0-2]"),
    ):
        run(machines, [{"key": 1}])


def test_a_worker_sees_the_gpus_that_ray_gives_it(nodes, tmp_path, monkeypatch):
    node = nodes.add(num_gpus=4)
    try:
        with Ray(address=nodes.address).opened(tmp_path) as machines:
            pool = KeptWorkers(machines.start)
            results = stream("toy_worker", {}, [{"key": 1}], in_flight=1, round_options={}, kept=pool, gpus=2)
            pid = next(results)["pid"]
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            results.close()
            pool.close()
        (devices,) = [each for each in environment if each.startswith(b"CUDA_VISIBLE_DEVICES=")]
        assert len(devices.split(b"=")[1].split(b",")) == 2
    finally:
        nodes.kill(node)


def test_a_node_with_another_package_is_named_and_refused(nodes, tmp_path):
    other = tmp_path / "polars-0.0.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: polars\nVersion: 0.0.1\n")
    path = f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"
    node = nodes.add(env={"PYTHONPATH": path})
    try:
        with (
            pytest.raises(EngineError, match=r"has other versions than this process: polars 0\.0\.1 in place of"),
            Ray(address=nodes.address).opened(tmp_path),
        ):
            pass
    finally:
        nodes.kill(node)


@pytest.mark.parametrize(
    ("address", "match"),
    [
        ("127.0.0.1:1", "nothing answers there"),
        ("nowhere", "is not the address of a Ray cluster"),
        ("ray://127.0.0.1:10001", "is not the address of a Ray cluster"),
    ],
)
def test_an_address_without_a_cluster_is_one_message(address, match, tmp_path):
    with pytest.raises(EngineError, match=match), Ray(address=address).opened(tmp_path):
        pass
