"""A fusion on a cluster of several raylets whose load and nodes change while it runs: its engines, and the scene.

GPUs are logical; engines are scripted, answer `SLOTS` requests at a time and take as long as the file `answer_s` says.
The trainer is scripted too, but holds a placement group as Ray Train's does, and gives it back and asks again when
told. For programs that each have a process of their own: elastic_run.py, autoscaled_run.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], *filter(None, [os.environ.get("PYTHONPATH")])])

import ray
from ray._private import state as ray_state
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from scripted_parts import NO_FAULTS, ScriptedEngineActor, scripted_config, scripted_parts

from bohdi_ray.driver.components import ComponentFactories
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.errors import BohdiError
from bohdi_ray.fusion import fuse
from bohdi_ray.observe.summary import Summary
from bohdi_ray.placement.machines import nodes_of_ray
from bohdi_ray.placement.placement import resolve_gpus
from bohdi_ray.placement.pools import placement_groups, pools, scaler
from bohdi_ray.placement.pools.placement_groups import EngineGroup
from bohdi_ray.placement.pools.scaling import Tempo

SLOTS = 4
MOST = 5  # engines of ada: with all others, as many as the two nodes of `course` have cards
STAGE_S = 90.0  # for anything to happen that is waited for
TRAINER = {"CPU": 1.0, "GPU": 1.0}
SLOW, FAST = "0.4", "0.0"


class ElasticEngine(ScriptedEngineActor):
    """Works on `SLOTS` requests at a time; tells how many it has, how many wait, and for how long."""

    def __init__(self, model: str, weights_version: int, folder: str):
        super().__init__(model, weights_version, 0.0, NO_FAULTS)
        self._speed = Path(folder) / "answer_s"
        self._slots = asyncio.Semaphore(SLOTS)
        self._num_inside = self._num_waiting = self._num_begun = 0
        self._waited_s = 0.0

    async def _answers(self, requests):
        for done in asyncio.as_completed([self._one(request) for request in requests]):
            yield await done

    async def _one(self, request):
        asked = time.monotonic()
        self._num_waiting += 1
        async with self._slots:
            self._num_waiting -= 1
            self._num_begun += 1
            self._waited_s += time.monotonic() - asked
            self._num_inside += 1
            try:
                await asyncio.sleep(float(self._speed.read_text()))
                return [answer for ready in [one async for one in super()._answers([request])] for answer in ready]
            finally:
                self._num_inside -= 1

    async def stats(self) -> EngineStats:
        stats = await super().stats()
        return replace(
            stats,
            num_in_flight=self._num_inside,
            num_waiting=self._num_waiting,
            num_begun=self._num_begun,
            waited_s=self._waited_s,
        )


def elastic_parts(folder: Path, make_trainer_sit: Callable[[], None]) -> ComponentFactories:
    """Scripted parts whose engines take their seats."""
    parts = scripted_parts()
    actor = ray.remote(num_cpus=0, max_concurrency=1000)(ElasticEngine)

    def make_engine(model: Any, replica_id: str, version: int, weights_dir: str | None, group: EngineGroup) -> Any:
        return actor.options(**group.options()).remote(model.name, version, str(folder))

    def start_trainer(*args: Any) -> Any:
        make_trainer_sit()
        return parts.start_trainer(*args)

    def settle(config: Any) -> Any:
        return resolve_gpus(config, any(node.num_gpus for node in nodes_of_ray(ray.nodes())))

    return replace(parts, make_engine=lambda config: make_engine, start_trainer=start_trainer, settle=settle)


class Scene:
    """The cluster, the run on it, and what is seen of both."""

    def __init__(self, folder: Path, cluster: Any):
        self.folder, self.cluster = folder, cluster
        self.pools: Any = None
        self.trainer: PlacementGroup | None = None
        self.told: list[str] = []
        self.failure: BaseException | None = None
        self.speed(SLOW)

    def add_node(self, **more: Any) -> Any:
        # Ray's hooks for the end of the process want the main thread; those of the first node are there.
        with mock.patch("signal.signal"):
            return self.cluster.add_node(**more)

    def speed(self, answer_s: str) -> None:
        (self.folder / "answer_s.new").write_text(answer_s)
        os.replace(self.folder / "answer_s.new", self.folder / "answer_s")

    def trainer_sits(self) -> None:
        """What Ray Train does as it starts its workers."""
        self.trainer = placement_group([TRAINER])

    def trainer_leaves(self) -> None:
        if self.trainer is not None:
            remove_placement_group(self.trainer)
            self.trainer = None

    def trainer_is_seated(self) -> bool:
        return self.trainer is not None and placement_group_table(self.trainer).get("state") == "CREATED"

    def run(self, run: str, play: Callable[[], None] | None = None, **changes: Any) -> Summary | BaseException:
        """A fusion, with `play` in a thread beside it, at whose end it is told to stop."""
        made = pools.EnginePools.__init__

        def remembered(pools: Any, *args: Any) -> None:
            made(pools, *args)
            self.pools = pools
            notify = pools._notify
            said = lambda kind, text, **more: (self.told.append(text), notify(kind, text, **more))[1]  # noqa: E731
            pools._notify = pools.placement_groups._notify = pools._scaler._notify = said

        def played() -> None:
            try:
                self.until(lambda: self.pools is not None and self.pools.counts()["target"][1] > 0, "the start")
                play()
            except BaseException as error:
                self.failure = error
            os.kill(os.getpid(), signal.SIGINT)

        self.pools = None
        pools.EnginePools.__init__ = remembered
        director = threading.Thread(target=played, daemon=True)
        if play is not None:
            director.start()
        try:
            config = scripted_config(str(self.folder / run), **changes)
            return fuse(config, parts=elastic_parts(self.folder, self.trainer_sits))
        except BohdiError as error:
            return error
        finally:
            pools.EnginePools.__init__ = made
            self.trainer_leaves()

    def until(self, holds: Callable[[], bool], what: str, seconds: float = STAGE_S) -> float:
        """How long it took until it held, s. Raises TimeoutError."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"{what}: {self.pools and self.pools.counts()}, {self.told[-5:]}")
            time.sleep(0.1)
        return time.monotonic() - began

    def serving(self, model: str) -> int:
        return self.pools.counts()[model][1]

    def beside_driver(self) -> set[str]:
        """The last parts of the names of the actors that live on this node."""
        here, actors = ray.get_runtime_context().get_node_id(), ray_state.actors().values()
        return {
            a["Name"].rpartition("/")[2] for a in actors if a["State"] == "ALIVE" and a["Address"]["NodeID"] == here
        }

    def left_behind(self) -> list[str]:
        """Groups, engines and demands that are still there, and room that is not free, after half a minute.

        That is for Ray's count of what is free, which raylets report. Five runs in a row that were interrupted at full
        load read as free 0.2 s after their end, on two cores with other work too, and so do actors and tasks that are
        ended while their worker still starts. Yet one run on a busy machine read as taken for more than 10 s, with no
        group, actor or demand left; what held it is not known.
        """
        for _ in range(150):
            left = [f"group {g['name']}" for g in placement_group_table().values() if g["state"] != "REMOVED"]
            actors = ray_state.actors().values()
            left += [f"actor {a['ActorClassName']}" for a in actors if a["State"] != "DEAD"]
            left += [f"demand {one}" for one in demands(self.cluster.address)]
            available, living = ray_state.available_resources_per_node(), [n for n in ray.nodes() if n["Alive"]]
            left += [
                f"{node['NodeID'][:6]}: {name} {available[node['NodeID']].get(name, 0)} of {node['Resources'][name]}"
                for node in living
                for name in ("CPU", "GPU")
                if available[node["NodeID"]].get(name, 0) < node["Resources"].get(name, 0)
            ]
            if not left:
                return []
            time.sleep(0.2)
        return left


def demands(address: str) -> list[Any]:
    """What Ray's autoscaler would be asked for."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    asked = get_cluster_status(address).resource_demands
    return [*asked.placement_group_demand, *asked.ray_task_actor_demand, *asked.cluster_constraint_demand]


def model(name: str, **more: Any) -> dict[str, Any]:
    return {"kind": "vllm", "name": name, "model": "./none", "resources": {"num_cpus": 0.5}, **more}


ELASTIC = {"replicas": {"min": 1, "max": MOST, "requests_per_engine": SLOTS}}
BUSY = {
    "sources": [model("ada", **ELASTIC), model("bob")],
    "target": model("target"),
    "meditation": {"steps": 400, "walks_per_step": 40},
    "harvest": {"max_tasks_in_flight": 12, "tickets_per_task": 2},
    "training": {"global_batch_size": 8, "resources_per_worker": TRAINER},
    "stop": {"rounds": 50},
    "deadlines": {"placement_s": 20, "drain_s": 2},
}


def hasten() -> None:
    """The pools look, decide and try again in seconds."""
    pools.WATCH_EVERY_S, placement_groups.TELL_EVERY_S, placement_groups.LOOK_EVERY_S = 0.3, 1.0, 0.3
    scaler.TEMPO = Tempo(grow_after_s=1.0, shrink_after_s=4.0, cooldown_s=1.0, tolerated_wait_s=0.2)
    pools.FIRST_PAUSE_S = 2.0
