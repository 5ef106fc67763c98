"""What more replicas are worth, and where the driver and the tree manager end it.

Real: the driver's `Harvester`, harvest tasks, `RoutedModels`, tree manager actor, journal, sample parts. Scripted:
engines, which take 200 ms a request, 4 at a time per replica, with many replicas to a process. One source and one
target; a sample is a question, two answers and a judgement, three of the four requests to the source, so a replica of
the source is worth 6.7 samples/s at most. The target has half as many replicas. The tree has 1,000 leaves and grows no
further, so that every request belongs to a sample.

- `efficiency`: samples/s with n replicas of the source over n times that with one; of each the better of two
  measurements, because other work on the machine only takes away. The number of tickets in flight and in a round grows
  with n, so that every measurement takes as long.
- `saturation_samples_per_s`: 256 replicas and 10,000 tickets in flight. The engines could make 1,707 samples/s.
  `reached_samples_per_s` is what this machine makes of it, all processes on its cores. CPU time is counted for each
  kind of process; the saturation is the samples per second of CPU time of the driver or the tree manager, whichever
  needs more: each is one thread, so no number of other machines brings the harvest beyond it. `limit` names that one;
  `cpu_s_per_1000_samples` has them all.

- `reaction_s`: from a doubling of the load until a new replica has answered a request; `elastic_reaction.py`.

Usage: python jobs/bench/elastic.py [--replicas 1,2,4,8,16] [--seconds 8]      last line: one JSON object
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TESTS, BENCH = str(Path(__file__).parents[2] / "tests"), str(Path(__file__).parent)
sys.path.insert(0, TESTS)
os.environ["PYTHONPATH"] = os.pathsep.join([TESTS, BENCH, *filter(None, [os.environ.get("PYTHONPATH")])])

import ray  # noqa: E402
from elastic_harvests import SOURCE, SPEED, STEPS, TARGET, Harvests, ideal, make_config, table_of  # noqa: E402
from elastic_reaction import reaction  # noqa: E402
from process_times import ProcessTimes  # noqa: E402
from smoke import parse  # noqa: E402
from timed_engines import start_hosted  # noqa: E402

from bohdi_ray.actors.directory import start_directory  # noqa: E402
from bohdi_ray.engines.routing import RoutingTable  # noqa: E402

NUM_TASKS, SOURCE_HOSTS = 4, 2
SIMULATED_REPLICAS, SIMULATED_HOSTS, SIMULATED_TASKS = 256, 4, 16
IN_FLIGHT = 10_000


async def samples_per_s(run_dir: str, directory: Any, table: RoutingTable, seconds: float) -> dict[str, Any]:
    """One round, with the processes of the tasks warmed up before."""
    num_replicas = len(table.replicas[SOURCE])
    walks = round(ideal(num_replicas) * seconds / STEPS)
    # 12 tickets in flight per replica, three times its slots, so that none of them is empty while tasks come and go.
    tickets = max(2, 12 * num_replicas // NUM_TASKS)
    config = make_config(run_dir, walks, NUM_TASKS, tickets)
    harvests = Harvests(config, directory, lambda: table)
    await harvests.start_workers(NUM_TASKS)
    harvest = await harvests.harvest()
    harvests.end()
    accepted, took_s = harvest.num_accepted, harvest.finished - harvest.started
    result = {
        "samples_per_s": accepted / took_s,
        "of_ideal": accepted / took_s / ideal(num_replicas),
        "samples": accepted,
        "seconds": took_s,
    }
    print(json.dumps({"replicas": num_replicas} | result), file=sys.stderr, flush=True)
    return result


async def scaling(folder: str, directory: Any, options: argparse.Namespace, replicas: list[int]) -> dict[str, Any]:
    most = max(replicas)
    sources = start_hosted(SOURCE, most, SOURCE_HOSTS, SPEED)
    # The target has a third of the source's requests: half as many replicas, and it is never what limits.
    targets = start_hosted(TARGET, -(-most // 2), 1, SPEED)
    best: dict[int, dict[str, Any]] = {}
    for repeat in range(options.repeats):
        for n in replicas:
            table = table_of(sources[:n], targets[: -(-n // 2)])
            figures = await samples_per_s(f"{folder}/run-{n}-{repeat}", directory, table, options.seconds)
            best[n] = max(best.get(n, figures), figures, key=lambda one: one["samples_per_s"])
    for handle in (*sources, *targets):
        handle.end()
    of_one = best[min(replicas)]["samples_per_s"] / min(replicas)
    return {
        "efficiency": {n: figures["samples_per_s"] / (n * of_one) for n, figures in best.items()},
        "by_replicas": best,
    }


async def saturation(folder: str, directory: Any, in_flight: int) -> dict[str, Any]:
    """One round with two steps' tickets in flight at once, `in_flight` of them."""
    sources = start_hosted(SOURCE, SIMULATED_REPLICAS, SIMULATED_HOSTS, SPEED)
    targets = start_hosted(TARGET, SIMULATED_REPLICAS, SIMULATED_HOSTS, SPEED)
    config = make_config(f"{folder}/run-simulated", in_flight // 2, SIMULATED_TASKS, in_flight // SIMULATED_TASKS)
    table = table_of(sources, targets)
    harvests = Harvests(config, directory, lambda: table)
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
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a measurement, s")
    parser.add_argument("--repeats", type=int, default=2, help="measurements of each number; the best one counts")
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT, help="tickets in the simulated cluster; 0: skip")
    parser.add_argument("--no-reaction", action="store_true", help="leave the doubling of the load out, about 50 s")
    options = parse(parser, replicas="1,2", seconds=1.0, repeats=1, in_flight=200)
    replicas = [int(n) for n in options.replicas.split(",") if n]
    result: dict[str, Any] = {}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        ray.init("local", num_cpus=16, include_dashboard=False, log_to_driver=False)
        try:
            directory = start_directory()
            if replicas:
                result |= asyncio.run(scaling(folder, directory, options, replicas))
            if not options.no_reaction:
                result |= asyncio.run(reaction(folder, directory))
            if options.in_flight:
                result |= asyncio.run(saturation(folder, directory, options.in_flight))
        finally:
            ray.shutdown()
    print(json.dumps(result | {"took_s": time.monotonic() - started, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
