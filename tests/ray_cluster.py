"""A real Ray cluster of several nodes, all on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MEMORY = 80_000_000
"""Bytes of a node's object store."""
ROOMS = ("evaluation", "precompute")
"""Whose tests have jobs of their own, which the nodes must find."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that does no jobs, and three nodes that do one each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        tests = Path(__file__).parent
        paths = [
            str(tests),
            *(str(tests / room) for room in ROOMS),
            os.environ.get("PYTHONPATH", ""),
        ]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(3):
                cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
            cluster.wait_for_nodes()
            yield cluster
        finally:
            cluster.shutdown()


def kill_node(cluster: Any, said: Path) -> None:
    """Wait until a file says the id of a node, and end that node without warning."""
    import time

    while not said.exists() or not said.read_text():
        time.sleep(0.1)
    (node,) = [n for n in cluster.worker_nodes if n.node_id == said.read_text()]
    cluster.remove_node(node, allow_graceful=False)
