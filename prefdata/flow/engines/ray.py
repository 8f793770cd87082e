"""The Ray engine: models run in actors all over a cluster, and shards of pairs are made by tasks.

The process of the build hands out items, journals each answer and writes the shards, as it does on one machine: so the
seeds, the journal and what is counted are the same code. A cluster gets what costs: a model's workers
(`prefdata.flow.engines._ray_pool`), and the pairing of shards. What needs no model runs here: tables, endpoints,
scorers in Python, a recipe's own Python parts.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from operator import methodcaller
from pathlib import Path
from typing import Any

from prefdata.errors import EngineError, MissingExtraError, first_line
from prefdata.flow.engines._ray_pool import Hand, RayPool
from prefdata.flow.engines.local import Machines, make_here
from prefdata.flow.jobs import ShardJob
from prefdata.flow.progress import say
from prefdata.flow.stage_files import read_files, write_noted
from prefdata.flow.store import StageFolder
from prefdata.flow.versions import packages
from prefdata.models.pool import PoolSpec
from prefdata.spec import JSON

__all__ = ["Ray"]

_CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 120.0
"""How long a node may take to report its versions."""
_STORE_BYTES = 512 << 20
"""Object store of a cluster that is started here. What is under way in it is bounded by the items that workers hold."""
_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, kw_only=True)
class Ray:
    """Runs the models of a build on a Ray cluster. It is given beside a recipe, is no part of it, and changes no byte.

    Args:
        address: of a running cluster, `HOST:PORT` or `auto`; None takes `RAY_ADDRESS`, or starts one on this machine.
        actors: workers of each model, every one with the whole model; None takes as many as the GPUs admit, or one for
            each node where there are none.
        gpus: GPUs of each worker; None takes what the model needs (vLLM: its tensor and pipeline parallelism), none
            where the cluster has no GPU.
        cpus: CPUs that Ray sets aside for each worker.
    """

    address: str | None = None
    actors: int | None = None
    gpus: float | None = None
    cpus: float = 1.0

    @contextmanager
    def opened(self, folder: Path) -> Iterator[Machines]:
        """Connects to the cluster, checks that its nodes are like this one, and disconnects in the end.

        Args:
            folder: of the build.

        Raises:
            MissingExtraError: Ray is not installed.
            EngineError: there is no cluster, or one of its nodes can't take part.
        """
        ray = _ray()
        began, ours = time.monotonic(), not ray.is_initialized()
        if ours:
            self._connect(ray)
        try:
            cluster = _Cluster(self, ray, folder.absolute())
            say(f"Ray: {cluster.summary()}; ready after {time.monotonic() - began:.1f} s")
            yield Machines(cluster.start, cluster.make_shards)
        finally:
            if ours:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        address = self.address or os.environ.get("RAY_ADDRESS")
        if address is None:
            ray.init(address="local", include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
            return
        if address != "auto":
            _check_reachable(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise EngineError(
                f"the Ray cluster at {address!r} can't be joined: {first_line(error)}",
                valid="the address of a running cluster, with Python and Ray as they are here",
                hint="`ray status` on a node of the cluster tells whether it runs, and at which address",
            ) from error


class _Cluster:
    """A cluster that this process has joined."""

    def __init__(self, engine: Ray, ray: Any, folder: Path) -> None:
        self._engine, self._ray = engine, ray
        self._nodes: list[Mapping[str, JSON]] = []
        self._shared = True
        """Whether every node sees the build folder."""
        self._look_over([node for node in ray.nodes() if node["Alive"]], str(folder))

    def summary(self) -> str:
        """Counts nodes and devices."""
        cpus, gpus = (sum(self._has(node, device) for node in self._nodes) for device in ("CPU", "GPU"))
        return f"nodes {len(self._nodes)}, CPUs {cpus:g}, GPUs {gpus:g}"

    def _has(self, node: Mapping[str, JSON], device: str) -> float:
        return float(node["Resources"].get(device, 0))

    def _look_over(self, nodes: Sequence[Mapping[str, JSON]], folder: str) -> None:
        """Checks that every node runs what this one does, and leaves out those that don't answer."""
        calls, ours = [self._look(node, folder) for node in nodes], _look(folder)[0]
        for node, call in zip(nodes, calls, strict=True):
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            try:
                theirs, sees_folder = self._ray.get(call, timeout=_LOOK_SECONDS)
            except (self._ray.exceptions.RayTaskError, ImportError) as error:
                raise EngineError(
                    f"the node {name} can't run prefdata: {first_line(getattr(error, 'cause', None) or error)}",
                    valid="nodes with the same Python and packages",
                    hint="install on each node what is installed here, in the Python that started `ray`",
                ) from error
            except self._ray.exceptions.RayError as error:
                say(f"Ray: the node {name} is left out, for it doesn't answer: {first_line(error)}")
                continue
            if differ := [what for what in {**ours, **theirs} if ours.get(what) != theirs.get(what)]:
                said = "; ".join(f"{what} {theirs.get(what)} in place of {ours.get(what)}" for what in differ)
                raise EngineError(
                    f"the node {name} has other versions than this process: {said}",
                    valid="nodes with the same Python and packages: an answer must not depend on who gave it",
                    hint="install on each node what is installed here",
                )
            self._nodes.append(node)
            self._shared = self._shared and sees_folder

    def _look(self, node: Mapping[str, JSON], folder: str) -> Any:
        here = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": here}
        return self._ray.remote(_look).options(**options).remote(folder)

    def start(self, spec: PoolSpec, round_options: Mapping[str, JSON] | None) -> RayPool:
        """Starts the workers of a stream; see `prefdata.spec.Engines`.

        Raises:
            EngineError: the cluster has too few CPUs or GPUs.
        """
        has_gpus = any(self._has(node, "GPU") for node in self._nodes)
        gpus = self._engine.gpus if self._engine.gpus is not None else float(spec.gpus if has_gpus else 0)
        cpus = self._engine.cpus
        places = [
            min(
                self._has(node, "CPU") // cpus if cpus else float("inf"),
                self._has(node, "GPU") // gpus if gpus else float("inf"),
            )
            for node in self._nodes
        ]
        actors = self._engine.actors or int(max(1, sum(places) if gpus else len(self._nodes)))
        if actors > sum(places):
            raise EngineError(
                f"{spec.name} needs {actors} x ({cpus:g} CPUs, {gpus:g} GPUs), each on one node; the cluster has room "
                f"for {sum(places):g}: {self.summary()}",
                valid="as many workers as the nodes have CPUs and GPUs for",
                hint="ask for fewer with --actors (in Python: Ray(actors=..., gpus=..., cpus=...)), or add nodes",
            )
        if gpus:
            # Ray says which GPUs an actor has.
            own = {name: value for name, value in spec.environments[0].items() if name != _DEVICES}
            spec = replace(spec, environments=(own,))
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_concurrency": 2, "scheduling_strategy": "SPREAD"}
        actor = self._ray.remote(Hand).options(**options)
        return RayPool(spec, round_options, actors, actor.remote)

    def make_shards(self, job: ShardJob, shards: Sequence[int]) -> None:
        """Makes shards by tasks, each of which is done again where its node is lost; see `Machines`.

        Raises:
            EngineError: the tasks of a shard were lost again and again.
        """
        pickled = _pickled(job) if self._shared else None
        if pickled is None:
            make_here(job, shards)
            return
        make = self._ray.remote(_make_shard).options(num_cpus=1, max_retries=5)
        whole = self._ray.put(pickled)
        calls: list[Any] = []
        waiting = list(reversed(shards))
        room = 2 * int(max(1, sum(self._has(node, "CPU") for node in self._nodes)))
        try:
            while waiting or calls:
                while waiting and len(calls) < room:
                    calls.append(make.remote(whole, waiting.pop()))
                (call, *_), calls = self._ray.wait(calls, num_returns=1)
                for name, content in self._ray.get(call):
                    write_noted(job.folder.path / name, methodcaller("write_bytes", content))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise EngineError(
                f"a shard of pairs could not be made on any node: {first_line(error)}",
                hint="see the cluster's logs (`ray logs`); a node that kills tasks has often run out of memory",
            ) from error
        finally:
            for call in calls:
                self._ray.cancel(call, force=True)


def _look(folder: str) -> tuple[dict[str, str], bool]:
    """Tells what this node runs, and whether it sees a folder."""
    code = hashlib.sha256()
    root = Path(__file__).parents[2]
    for path in sorted(root.rglob("*.py")):
        code.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return {**packages(), "code of prefdata": code.hexdigest()[:12]}, Path(folder, "prefdata.lock.json").exists()


def _make_shard(pickled: bytes, shard: int) -> list[tuple[str, bytes]]:
    """Makes one shard in a folder of its own; returns its files, in the order in which they must appear."""
    job: ShardJob = pickle.loads(pickled)
    with tempfile.TemporaryDirectory(prefix="prefdata-") as name:
        folder = StageFolder(Path(name))
        replace(job, folder=folder).make(shard)
        return [(file, (folder.path / file).read_bytes()) for file in read_files(folder.path).files]


class _OwnCodeError(Exception):
    """A job holds code that is not of an installed package."""


class _Pickler(pickle.Pickler):
    """Pickles a job whose code is on every node: that of prefdata, and of Python."""

    def reducer_override(self, value: Any) -> Any:
        """Refuses a class of the user's own, whose module a node need not have."""
        if isinstance(value, type) and value.__module__.partition(".")[0] not in {"prefdata", *sys.stdlib_module_names}:
            raise _OwnCodeError
        return NotImplemented


def _pickled(job: ShardJob) -> bytes | None:
    """Pickles a job; None where it has code of the user's own."""
    file = io.BytesIO()
    try:
        _Pickler(file).dump(_absolute(job))
    except _OwnCodeError:
        return None
    return file.getvalue()


def _absolute(value: Any) -> Any:
    """Gives plain data with the absolute path of every stage folder: tasks run in folders of their own."""
    if isinstance(value, StageFolder):
        return StageFolder(value.path.absolute())
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _absolute(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, tuple):
        return tuple(map(_absolute, value))
    if isinstance(value, Mapping):
        return {name: _absolute(each) for name, each in value.items()}
    return value


def _check_reachable(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "://" in address:
        raise EngineError(
            f"{address!r} is not the address of a Ray cluster",
            valid="HOST:PORT, as `ray start --head` prints it, or auto",
            hint="run the build on a node of the cluster; from elsewhere, submit it with `ray job submit`",
        )
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), _CONNECT_SECONDS):
        return
    raise EngineError(
        f"there is no Ray cluster at {address!r}: nothing answers there",
        valid="HOST:PORT of a running cluster, or auto",
        hint="start one with `ray start --head`, then: ray start --address HOST:PORT on each other node",
    )


def _ray() -> Any:
    # Ray would report its use to its makers, and hide the GPUs from workers that ask for none.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    for missing in MissingExtraError.all_of("the engine 'ray'", "ray", "ray"):
        raise missing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        import ray._private.worker
        import ray.util.scheduling_strategies
    # Ray prints what its nodes report on standard output, which is the result's; it has no public switch for that.
    ray._private.worker._worker_logs_enabled = False
    return ray
