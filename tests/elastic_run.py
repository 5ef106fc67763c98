"""A fusion on a cluster of several raylets whose load and nodes change while it runs, in a process of its own.

`python elastic_run.py CASE FOLDER` starts the cluster, runs the case, and writes what came of it to FOLDER/seen.json.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import ray
from elastic_scene import BUSY, FAST, MOST, SLOW, Scene, demands, hasten, model
from ray.cluster_utils import Cluster

from bohdi_ray.errors import Interrupted


def course(scene: Scene) -> dict[str, Any]:
    """Load, too little room, a trainer that restarts, a node more, a node less, no load."""
    seen: dict[str, Any] = {}
    first = scene.add_node(num_cpus=8, num_gpus=4)
    scene.cluster.wait_for_nodes()

    def play() -> None:
        seen["beside_driver"] = sorted(scene.beside_driver())
        scene.until(lambda: any("continues with fewer" in text for text in scene.told), "a shortage")
        seen["waited"] = next(text for text in scene.told if "s for capacity: it needs" in text)
        seen["given_up"] = next(text for text in scene.told if "continues with fewer" in text)
        seen["ada_without_room"] = scene.serving("ada")
        # Ray Train gives its seats back and asks again: while the pool wants more than there is.
        scene.until(lambda: bool(demands(scene.cluster.address)), "the pool to ask again")
        scene.trainer_leaves()
        time.sleep(3)
        seen["ada_while_trainer_restarts"] = scene.serving("ada")
        scene.trainer_sits()
        seen["trainer_back_s"] = scene.until(scene.trainer_is_seated, "the trainer to sit again", 10)
        scene.add_node(num_cpus=8, num_gpus=4)
        seen["grown_s"] = scene.until(lambda: scene.serving("ada") == MOST, "the pool to grow to the new node")
        scene.speed(FAST)
        seen["shrunk_s"] = scene.until(lambda: scene.pools.counts()["ada"] == (1, 1), "the pool to shrink")
        scene.speed(SLOW)
        scene.until(lambda: scene.serving("ada") == MOST, "the pool to grow again")
        # All that was on the first node is lost. The second one is full of ada, which gives some of its cards back.
        scene.cluster.remove_node(first)
        scene.trainer_leaves()
        scene.trainer_sits()
        scene.until(scene.trainer_is_seated, "the trainer to sit on the second node")
        scene.until(lambda: scene.pools.num_replaced >= 2, "what was lost to be replaced")
        scene.until(lambda: all(up >= 1 for _, up in scene.pools.counts().values()), "all models to serve again")
        seen["told"] = list(scene.told)

    ended = scene.run("course", play, **BUSY)
    seen["ended"] = repr(ended)
    seen["left_behind"] = scene.left_behind()
    return seen


def same(scene: Scene) -> dict[str, Any]:
    """The same fusion with one engine a model and with a pool that grows: one tree."""
    scene.add_node(num_cpus=8, num_gpus=6)
    scene.cluster.wait_for_nodes()
    scene.speed("0.2")
    small = {**BUSY, "meditation": {"steps": 1, "walks_per_step": 40}, "stop": {"rounds": 2}}
    grown = scene.run("grown", None, **small)
    scene.speed(FAST)
    fixed = scene.run("fixed", None, **{**small, "sources": [model("ada"), model("bob")]})
    return {
        "digests": [getattr(one, "tree_digest", repr(one)) for one in (grown, fixed)],
        "grew": any("ada grows" in text for text in scene.told),
        "left_behind": scene.left_behind(),
    }


def short(scene: Scene) -> dict[str, Any]:
    """More is wanted than there is, and the run is to stop then; labels nobody has count as no room."""
    scene.add_node(num_cpus=8, num_gpus=2, labels={"region": "a"})
    scene.cluster.wait_for_nodes()
    here = {"num_cpus": 0.5, "label_selector": {"region": "a"}}
    there = {"num_cpus": 0.5, "label_selector": {"region": "b"}}
    settings = {
        **BUSY,
        "sources": [model("ada", resources=there), model("bob", resources=here)],
        "harvest": {**BUSY["harvest"], "shortage": "stop"},
        "training": {"resources_per_worker": {"CPU": 1}},
    }
    ended = scene.run("short", None, **settings)
    return {"ended": type(ended).__name__, "text": str(ended), "left_behind": scene.left_behind()}


CASES = {"course": course, "same": same, "short": short}


def main(case: str, folder: str) -> None:
    hasten()
    scene = Scene(Path(folder), Cluster(initialize_head=True, head_node_args={"num_cpus": 8, "num_gpus": 0}))
    try:
        ray.init(address=scene.cluster.address, log_to_driver=False)
        seen = CASES[case](scene)
        if scene.failure is not None and not isinstance(scene.failure, Interrupted):
            seen["failure"] = repr(scene.failure)
        (Path(folder) / "seen.json").write_text(json.dumps(seen, indent=1))
    finally:
        ray.shutdown()
        scene.cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
