"""From a doubling of the load to the first answer of a new replica, through the driver's pools: part of `elastic.py`.

One replica of the source, which may grow to four, and a harvest that keeps its four slots busy. Once it has been steady
for longer than the scale decision looks back to grow, a second harvest like it begins, and the clock runs until a
replica that was not there before has answered a request of a harvest task. The engine itself starts at once: what a
model takes to load comes on top.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import ray
from elastic_harvests import SOURCE, SPEED, WAIT_S, Harvests, make_config
from timed_engines import MAX_CONCURRENCY, TimedEngine

from bohdi_ray.names import RunNames
from bohdi_ray.placement.placement import resolve_gpus
from bohdi_ray.placement.pools.placement_groups import EngineGroup
from bohdi_ray.placement.pools.pools import EnginePools
from bohdi_ray.placement.pools.scaler import TEMPO

TASKS, TICKETS_PER_TASK = 2, 2  # four tickets in flight: what one replica takes
LOOK_EVERY_S = 0.05


def make_engine(model: Any, replica_id: str, version: int, weights_dir: str | None, group: EngineGroup) -> Any:
    engine = ray.remote(num_cpus=0, max_concurrency=MAX_CONCURRENCY)(TimedEngine)
    return engine.options(**group.options()).remote(model.name, version, SPEED)


async def reaction(folder: str, directory: Any) -> dict[str, Any]:
    """`reaction_s`, and when the decision was made and the replica was in the routing table."""
    elastic = {"min": 1, "max": 4, "requests_per_engine": SPEED.slots}
    run_dir = f"{folder}/run-pools"
    config = resolve_gpus(make_config(run_dir, 1, 1, 1, replicas=elastic), cluster_has_gpus=False)
    decided: list[float] = []

    def notify(kind: str, text: str, **fields: Any) -> None:
        if kind == "pool_grows":
            decided.append(time.monotonic())

    pools = EnginePools(config, make_engine, directory, notify, RunNames.of(run_dir))
    pools.placement_groups.trainer_has_started = True  # there is none
    try:
        await pools.start_sources()
        await pools.start_target(0, "none")
        walks = 4 * round(TEMPO.grow_after_s * 20)  # more than can be harvested meanwhile
        harvests = [
            Harvests(
                make_config(f"{folder}/run-load-{i}", walks, TASKS, TICKETS_PER_TASK), directory, lambda: pools.table
            )
            for i in range(2)
        ]
        await harvests[0].start_workers(2 * TASKS)
        return await _doubled(pools, harvests, decided)
    finally:
        await pools.stop()


async def _doubled(pools: EnginePools, harvests: list[Harvests], decided: list[float]) -> dict[str, Any]:
    under_way = [asyncio.ensure_future(pools.watch()), asyncio.ensure_future(harvests[0].harvest())]
    try:
        await _or_failure(asyncio.sleep(2.5 * TEMPO.grow_after_s), under_way)
        before = {replica.replica_id for replica in pools.table.replicas[SOURCE]}
        assert len(before) == 1 and not decided, "the pool was to be steady"
        doubled = time.monotonic()
        under_way.append(asyncio.ensure_future(harvests[1].harvest()))
        listed, served = await _or_failure(_new_one_serves(pools, before), under_way)
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for harvest in harvests:
            harvest.end()
    return {
        "reaction_s": served - doubled,
        "reaction": {"decided_s": decided[0] - doubled, "listed_s": listed - doubled, "served_s": served - doubled},
    }


async def _new_one_serves(pools: EnginePools, before: set[str]) -> tuple[float, float]:
    """When a new replica was in the table, and when it had answered a request."""
    while not (new := [r for r in pools.table.replicas[SOURCE] if r.replica_id not in before]):
        await asyncio.sleep(LOOK_EVERY_S)
    listed = time.monotonic()
    while not await new[0].handle.served.remote():
        await asyncio.sleep(LOOK_EVERY_S)
    return listed, time.monotonic()


async def _or_failure(work: Any, under_way: list[asyncio.Future[Any]]) -> Any:
    """The value of `work`; raises what ends one of the others before."""
    main = asyncio.ensure_future(asyncio.wait_for(work, WAIT_S))
    await asyncio.wait([main, *under_way], return_when=asyncio.FIRST_COMPLETED)
    if not main.done():
        main.cancel()
        for task in under_way:
            if task.done():
                task.result()
        raise AssertionError("a harvest ended before it was to")
    return main.result()
