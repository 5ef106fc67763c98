"""Harvests as the driver makes them, with scripted engines that are there already: part of `elastic.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from string import ascii_uppercase
from typing import Any

import ray
from scripted_parts import scripted_config
from timed_engines import Speed

from bohdi_ray.actors.harvest_task import harvest_bundle
from bohdi_ray.actors.routed_models import EngineClientConfig
from bohdi_ray.actors.tree_manager import start_tree_manager
from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.harvest_round import Harvester, TaskContext
from bohdi_ray.driver.round_figures import HarvestResult
from bohdi_ray.engines.routing import Replica, RoutingTable
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.names import RunNames
from bohdi_ray.records import Ticket, ticket_id
from bohdi_ray.run.environment import environment
from bohdi_ray.run.quarantine import Quarantine
from bohdi_ray.run.run_dir import RunDir

SOURCE, TARGET = "ada", "target"
SPEED = Speed(answer_s=0.2, slots=4)
SOURCE_REQUESTS = 3  # a sample: question, answer, judgement
STEPS = 3
CHILDREN = 10
WAIT_S = 600.0


def make_config(run_dir: str, walks: int, tasks: int, tickets: int, replicas: Any = 1) -> FusionConfig:
    """`replicas`: of the source, as in a configuration."""
    return scripted_config(
        run_dir,
        sources=[{"kind": "vllm", "name": SOURCE, "model": "./none", "replicas": replicas}],
        tree={"max_children": [CHILDREN] * 3},
        meditation={"steps": STEPS, "walks_per_step": walks},
        harvest={"max_tasks_in_flight": tasks, "tickets_per_task": tickets, "max_staleness": 2},
        observe={"console": "quiet"},
    )


def domains() -> dict[str, dict[str, list[str]]]:
    """A whole tree of valid names."""

    def name(*at: int) -> str:
        return f"Field {''.join(ascii_uppercase[i] for i in at).capitalize()}s"

    each = range(CHILDREN)
    return {name(i): {name(i, j): [name(i, j, k) for k in each] for j in each} for i in each}


def ideal(num_replicas: int) -> float:
    """Samples/s with every slot of the source busy."""
    return num_replicas * SPEED.slots / SPEED.answer_s / SOURCE_REQUESTS


def table_of(sources: list[Any], targets: list[Any]) -> RoutingTable:
    replicas = {
        name: tuple(Replica(f"{name}-{i}", handle) for i, handle in enumerate(handles))
        for name, handles in ((SOURCE, sources), (TARGET, targets))
    }
    return RoutingTable(1, (SOURCE,), TARGET, replicas, 0)


class Harvests:
    """Rounds of one run, harvested as the driver does, with engines that are there already."""

    def __init__(self, config: FusionConfig, directory: Any, current_table: Callable[[], RoutingTable]):
        self._current_table = current_table
        run = RunDir.create(config.run_dir, config, environment())
        self.manager = start_tree_manager(config, domains(), run)
        client_config = EngineClientConfig(
            directory, Quarantine.of(config, run, None), config.deadlines.request_s, WAIT_S
        )
        plan, names = ray.put(HarvestPlan.from_config(config)), RunNames.of(run.location)
        context = TaskContext(plan, ray.put(client_config), directory, self.manager, run, None, names)
        self._bundle = partial(harvest_bundle.remote, plan=context.plan, client_config=context.client_config)
        self._harvester = Harvester(config, context, current_table, asyncio.Event(), lambda event: None)
        self._round = 0

    async def start_workers(self, num_tasks: int) -> None:
        """Has Ray start as many processes for harvest tasks, and those import what they need."""
        for _ in range(2):
            tickets = [Ticket(ticket_id(999, task, 0), 999, task, 0, ("A", "B"), 0) for task in range(num_tasks)]
            bundles = [self._bundle([one], table=self._current_table())[0] for one in tickets]
            await asyncio.wait_for(asyncio.gather(*bundles), WAIT_S)

    async def harvest(self) -> HarvestResult:
        """The next round, closed afterwards. Its version is 0: nothing is trained."""
        result = await asyncio.wait_for(self._harvester.run(self._round, 0), WAIT_S)
        self._round += 1
        await asyncio.wait_for(self.manager.close_round.remote(self._round, 0), WAIT_S)
        return result

    def end(self) -> None:
        ray.kill(self.manager)
