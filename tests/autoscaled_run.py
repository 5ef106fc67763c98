"""A fusion on a cluster whose nodes Ray's autoscaler brings and takes away, in a process of its own.

`python autoscaled_run.py FOLDER` writes what came of it to FOLDER/seen.json. The nodes are raylets on this machine,
from Ray's fake provider; all else of the autoscaler is real. It is what `ray.cluster_utils.AutoscalingCluster` starts,
which itself ends every other Ray on the machine, and reads a file that Ray's wheels leave out.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from elastic_scene import BUSY, FAST, TRAINER, Scene, demands, hasten, model
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider
from ray.autoscaler._private.monitor import BASE_READONLY_CONFIG
from token_cluster import agent_ports, free_ports, raylet

from bohdi_ray.errors import Interrupted
from bohdi_ray.placement.pools import scaler

MOST = 2  # engines of ada, each on a node of its own; the trainer takes another
PER_ENGINE = 16  # requests; more in flight than twice as many while answers are slow, fewer while they are not
IDLE_S = 2.0  # after which a node that nobody uses is taken away
NODE = {"CPU": 1, "GPU": 1}
HEAD, WORKER = "ray.head.default", "card"
ENVIRONMENT = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
}
PROVIDER = {
    "type": "external",
    "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}",
    "use_node_id_as_ip": True,
    "disable_node_updaters": True,
    "disable_launch_config_check": True,
    "launch_multiple": True,
    "head_node_id": FAKE_HEAD_NODE_ID,
}


@dataclass(frozen=True)
class AutoscaledCluster:
    """A head without a card, and up to `MOST` + 1 nodes with one."""

    address: str


@contextlib.contextmanager
def autoscaled_cluster(folder: Path) -> Iterator[AutoscaledCluster]:
    port, client_port, *agent = free_ports(4)
    cluster = AutoscaledCluster(f"127.0.0.1:{port}")
    settings = {
        **BASE_READONLY_CONFIG,
        "max_workers": MOST + 1,
        "idle_timeout_minutes": IDLE_S / 60,
        "provider": {**PROVIDER, "gcs_address": cluster.address},
        "available_node_types": {
            HEAD: {"resources": {"CPU": 16}, "node_config": {}, "max_workers": 0},
            WORKER: {"resources": NODE, "node_config": {}, "min_workers": 0, "max_workers": MOST + 1},
        },
        "head_node_type": HEAD,
    }
    (folder / "autoscaler.json").write_text(json.dumps(settings))
    # Short, for sockets are below it.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary:
        options = ["--head", f"--port={port}", f"--ray-client-server-port={client_port}", "--include-dashboard=false"]
        options += [f"--temp-dir={temporary}", *agent_ports(agent), "--num-cpus=16"]
        options += [f"--autoscaling-config={folder / 'autoscaler.json'}"]
        with raylet(options, {**os.environ, **ENVIRONMENT}, folder / "head.log"):
            yield cluster


def num_nodes() -> int:
    return sum(node["Alive"] for node in ray.nodes()) - 1


def course(scene: Scene) -> dict[str, Any]:
    """No card at first, then load, then hardly any, then none."""
    seen: dict[str, Any] = {"nodes_before": num_nodes()}
    small = {"num_cpus": 0.5, "num_gpus": 0}
    settings = {
        **BUSY,
        "sources": [
            model(
                "ada",
                resources={"num_cpus": 0.5, "num_gpus": 1},
                replicas={"min": 1, "max": MOST, "requests_per_engine": PER_ENGINE},
            ),
            model("bob", resources=small),
        ],
        "target": model("target", resources=small),
        "training": {"global_batch_size": 8, "resources_per_worker": TRAINER},
        "deadlines": {"placement_s": 60, "drain_s": 2},
    }

    def play() -> None:
        seen["nodes_at_start"] = num_nodes()
        seen["grown_s"] = scene.until(lambda: scene.serving("ada") == MOST, "the pool to grow to new nodes")
        seen["nodes_under_load"] = num_nodes()
        scene.speed(FAST)
        seen["shrunk_s"] = scene.until(lambda: scene.pools.counts()["ada"] == (1, 1), "the pool to shrink")
        seen["nodes_gone_s"] = scene.until(lambda: num_nodes() == 2, "what the pool gave back to go")
        seen["ada_then"] = scene.pools.counts()["ada"]
        seen["demands_then"] = [str(one) for one in demands(scene.cluster.address)]

    seen["ended"] = repr(scene.run("autoscaled", play, **settings))
    seen["last_gone_s"] = scene.until(lambda: num_nodes() == 0, "all nodes to go")
    seen["left_behind"] = scene.left_behind()
    return seen


def main(folder: Path) -> None:
    hasten()
    scaler.TEMPO = replace(scaler.TEMPO, tolerated_wait_s=60.0)  # on a full machine all requests wait
    with autoscaled_cluster(folder) as cluster:
        ray.init(address=cluster.address, log_to_driver=False)
        try:
            scene = Scene(folder, cluster)
            seen = course(scene)
            if scene.failure is not None and not isinstance(scene.failure, Interrupted):
                seen["failure"] = repr(scene.failure)
            (folder / "seen.json").write_text(json.dumps(seen, indent=1))
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
