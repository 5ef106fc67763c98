"""What more replicas are worth, and where the driver and the tree manager end it.

Real: the driver's `Meditation`, harvest tasks, `RoutedModels`, tree manager actor, journal, sample parts. Scripted:
engines, which take 200 ms a request, 4 at a time per replica. One source and one target with the same number of
replicas each; a sample is a question, two answers and a judgement, three of the four requests to the source, so a
source replica is worth 6.7 samples/s at most. The tree has 1,000 leaves and grows no further, so that every request
belongs to a sample.

- `efficiency`: samples/s with n replicas, a process each, over n times that with one. The number of tickets in flight
  and in a round grows with n, so that every measurement takes as long.
- `saturation_samples_per_s`: 256 replicas, many to a process, and 10,000 tickets in flight. The engines could make
  1,707 samples/s. `reached_samples_per_s` is what this machine makes of it, all processes on its cores; CPU time is
  counted for each kind of process, and the saturation is the samples per second of CPU time of the driver or the tree
  manager, whichever needs more: each is one thread, so no number of other machines brings the harvest beyond it.
  `limit` names that one; `cpu_s_per_1000_samples` has them all.

Usage: python jobs/bench/elastic.py [--replicas 1,2,4,8,16] [--seconds 10]      last line: one JSON object
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

TESTS, BENCH = str(Path(__file__).parents[2] / "tests"), str(Path(__file__).parent)
sys.path.insert(0, TESTS)
os.environ["PYTHONPATH"] = os.pathsep.join([TESTS, BENCH, *filter(None, [os.environ.get("PYTHONPATH")])])

import ray  # noqa: E402
from process_times import ProcessTimes  # noqa: E402
from scripted_parts import scripted_config  # noqa: E402
from timed_engines import Speed, start_hosted, start_replicas  # noqa: E402

from bohdi_ray.actors.directory import start_directory  # noqa: E402
from bohdi_ray.actors.harvest_task import harvest_bundle  # noqa: E402
from bohdi_ray.actors.routed_models import Reach  # noqa: E402
from bohdi_ray.actors.tree_manager import start_tree_manager  # noqa: E402
from bohdi_ray.config import FusionConfig  # noqa: E402
from bohdi_ray.engines.routing import Replica, RoutingTable  # noqa: E402
from bohdi_ray.harvest.plan import HarvestPlan  # noqa: E402
from bohdi_ray.meditation import Meditation, RoundHarvest, Supplies  # noqa: E402
from bohdi_ray.records import Ticket, ticket_id  # noqa: E402
from bohdi_ray.storage.environment import environment  # noqa: E402
from bohdi_ray.storage.quarantine import Quarantine  # noqa: E402
from bohdi_ray.storage.run_dir import RunDir  # noqa: E402

SOURCE, TARGET = "ada", "target"
SPEED = Speed(answer_s=0.2, slots=4)
SOURCE_REQUESTS = 3  # a sample: question, answer, judgement
STEPS = 3
CHILDREN = 10
WAIT_S = 600.0
NUM_TASKS = 8
SIMULATED_REPLICAS, SIMULATED_HOSTS, SIMULATED_TASKS = 256, 4, 16
IN_FLIGHT = 10_000


def make_config(run_dir: str, walks: int, tasks: int, tickets: int) -> FusionConfig:
    return scripted_config(
        run_dir,
        sources=[{"kind": "vllm", "name": SOURCE, "model": "./none"}],
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

    def __init__(self, config: FusionConfig, directory: Any, table: RoutingTable):
        run = RunDir.create(config.run_dir, config, environment())
        self.manager = start_tree_manager(config, domains(), run)
        reach = Reach(directory, Quarantine.of(config, run, None), config.deadlines.request_s, WAIT_S)
        supplies = Supplies(
            ray.put(HarvestPlan.from_config(config)), ray.put(reach), directory, self.manager, run, None
        )
        self._bundle = partial(harvest_bundle.remote, plan=supplies.plan, table=table, reach=supplies.reach)
        self._meditation = Meditation(
            config, supplies, lambda: table, lambda _: None, asyncio.Event(), lambda kind, text, **fields: None
        )
        self._round = 0

    async def start_workers(self, num_tasks: int) -> None:
        """Has Ray start as many processes for harvest tasks, and those import what they need."""
        for _ in range(2):
            tickets = [
                [Ticket(ticket_id(999, task, i), 999, task, i, ("A", "B"), 0) for i in range(8)]
                for task in range(num_tasks)
            ]
            bundles = [self._bundle(one)[0] for one in tickets]
            await asyncio.wait_for(asyncio.gather(*bundles), WAIT_S)

    async def harvest(self) -> RoundHarvest:
        """The next round, closed afterwards. Its version is 0: nothing is trained."""
        result = await asyncio.wait_for(self._meditation.run(self._round, 0), WAIT_S)
        self._round += 1
        await asyncio.wait_for(self.manager.close_round.remote(self._round, 0), WAIT_S)
        return result

    def end(self) -> None:
        ray.kill(self.manager)


async def samples_per_s(folder: str, directory: Any, table: RoutingTable, seconds: float) -> dict[str, Any]:
    """One round to warm up, two that count."""
    num_replicas = len(table.replicas[SOURCE])
    walks = round(ideal(num_replicas) * seconds / STEPS)
    # 12 tickets in flight per replica, three times its slots, so that none of them is empty while tasks come and go.
    tickets = max(2, 12 * num_replicas // NUM_TASKS)
    config = make_config(f"{folder}/run-{num_replicas}", walks, NUM_TASKS, tickets)
    harvests = Harvests(config, directory, table)
    await harvests.harvest()
    rounds = [await harvests.harvest() for _ in range(2)]
    harvests.end()
    accepted = sum(r.num_accepted for r in rounds)
    took_s = sum(r.finished - r.started for r in rounds)
    result = {
        "samples_per_s": accepted / took_s,
        "of_ideal": accepted / took_s / ideal(num_replicas),
        "samples": accepted,
        "seconds": took_s,
    }
    print(json.dumps({"replicas": num_replicas} | result), file=sys.stderr, flush=True)
    return result


async def scaling(folder: str, directory: Any, replicas: list[int], seconds: float) -> dict[str, Any]:
    most = max(replicas)
    sources, targets = start_replicas(SOURCE, most, SPEED), start_replicas(TARGET, most, SPEED)
    by_replicas = {}
    for n in replicas:
        by_replicas[n] = await samples_per_s(folder, directory, table_of(sources[:n], targets[:n]), seconds)
    for handle in (*sources, *targets):
        ray.kill(handle)
    of_one = by_replicas[min(replicas)]["samples_per_s"] / min(replicas)
    return {
        "efficiency": {n: figures["samples_per_s"] / (n * of_one) for n, figures in by_replicas.items()},
        "by_replicas": by_replicas,
    }


async def saturation(folder: str, directory: Any, in_flight: int) -> dict[str, Any]:
    """One round with two steps' tickets in flight at once, `in_flight` of them."""
    sources = start_hosted(SOURCE, SIMULATED_REPLICAS, SIMULATED_HOSTS, SPEED)
    targets = start_hosted(TARGET, SIMULATED_REPLICAS, SIMULATED_HOSTS, SPEED)
    config = make_config(f"{folder}/run-simulated", in_flight // 2, SIMULATED_TASKS, in_flight // SIMULATED_TASKS)
    harvests = Harvests(config, directory, table_of(sources, targets))
    await harvests.start_workers(SIMULATED_TASKS)
    times = ProcessTimes()
    result = await harvests.harvest()
    seconds = result.finished - result.started
    cpu_s = times.since()
    harvests.end()
    samples = result.num_accepted
    single = {name: samples / cpu_s[name] for name in ("driver", "tree_manager")}
    limit = min(single, key=single.__getitem__)
    return {
        "saturation_samples_per_s": single[limit],
        "limit": limit,
        "reached_samples_per_s": samples / seconds,
        "reached_share_of_engines": samples / seconds / ideal(SIMULATED_REPLICAS),
        "cpu_s_per_1000_samples": {name: 1000 * s / samples for name, s in cpu_s.items()},
        "simulated": {
            "replicas": SIMULATED_REPLICAS,
            "in_flight": in_flight,
            "samples": samples,
            "seconds": seconds,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", default="1,2,4,8,16", help="numbers of replicas to measure; empty: none")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a round, three rounds a number")
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT, help="tickets in the simulated cluster; 0: skip")
    options = parser.parse_args()
    replicas = [int(n) for n in options.replicas.split(",") if n]
    result: dict[str, Any] = {}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False)
        try:
            directory = start_directory()
            if replicas:
                result |= asyncio.run(scaling(folder, directory, replicas, options.seconds))
            if options.in_flight:
                result |= asyncio.run(saturation(folder, directory, options.in_flight))
        finally:
            ray.shutdown()
    print(json.dumps(result | {"took_s": time.monotonic() - started, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
