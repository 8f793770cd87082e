"""Real Ray nodes on this machine: each is a raylet with its own workers, and can be killed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

STORE_BYTES = 100 << 20


class Nodes:
    """A cluster of nodes."""

    def __init__(self) -> None:
        from prefdata.flow.engines.ray import _ray

        self.workers: list[Any] = []
        """All nodes but the head."""

        _ray()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ray.cluster_utils import Cluster

            self._cluster = Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": 1,
                    "include_dashboard": False,
                    "object_store_memory": STORE_BYTES,
                    # A node that is killed is missed after a second, not after half a minute. One that is slow to
                    # answer has ten seconds for each check.
                    "_system_config": {
                        "health_check_initial_delay_ms": 2000,
                        "health_check_period_ms": 250,
                        "health_check_failure_threshold": 4,
                    },
                },
            )

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, env: Mapping[str, str] | None = None, **resources: float) -> Any:
        """Starts a node; returns once it is part of the cluster."""
        node = self._cluster.add_node(
            **{"num_cpus": 1, "object_store_memory": STORE_BYTES, **resources}, env_vars=dict(env or {})
        )
        self._cluster.wait_for_nodes()
        self.workers.append(node)
        return node

    def kill(self, node: Any) -> None:
        """Kills a node and every process on it."""
        self.workers.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()


@contextmanager
def ray_nodes(n_workers: int) -> Iterator[Nodes]:
    """Gives a cluster of a head node and some more, with one CPU each."""
    nodes = Nodes()
    try:
        for _ in range(n_workers):
            nodes.add()
        yield nodes
    finally:
        nodes.close()
