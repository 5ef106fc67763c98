"""Many simulated fusions: the list of jobs, parallel processes, and tuning. Figures never depend on the number of
processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from bohdi_ray.studies.simulation.fusion import SimulatedFusion, simulation_config
from bohdi_ray.studies.simulation.metrics import summarise
from bohdi_ray.studies.simulation.planners import Race
from bohdi_ray.studies.simulation.policies import ENTRANTS
from bohdi_ray.studies.simulation.world import World
from bohdi_ray.studies.simulation.world_spec import WorldSpec

TUNING_SEEDS = range(1000, 1010)  # never among those that are reported
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """One simulated fusion."""

    world: str
    spec: WorldSpec
    policy: str
    settings: dict[str, Any] = field(hash=False)
    seed: int
    num_rounds: int


def simulate(job: Job) -> dict[str, Any]:
    """The figures of one job (`metrics.summarise`), with the job's description."""
    entrant = ENTRANTS[job.policy]
    world = World(job.spec, job.seed, job.num_rounds)
    config = simulation_config(
        job.seed, len(job.spec.branching), len(job.spec.sources), bandit=entrant.bandit_section(job.settings)
    )
    planner = entrant.planner(job.settings)
    trace = SimulatedFusion(world, config, Race() if planner else None, planner).run(job.num_rounds)
    what = {"world": job.world, "policy": job.policy, "settings": dict(job.settings), "seed": job.seed}
    return what | summarise(world, trace, entrant.tests)


def simulate_all(jobs: Sequence[Job], num_processes: int, progress: Progress | None = None) -> list[dict[str, Any]]:
    """The results in the jobs' order, whatever the number of processes."""
    results = []
    if num_processes == 1:
        for number, job in enumerate(jobs, 1):
            results.append(simulate(job))
            if progress:
                progress(number, len(jobs))
        return results
    # One thread each: numpy's own would only fight for the cores. A fresh interpreter inherits this.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    with ProcessPoolExecutor(num_processes, mp_context=get_context("spawn")) as pool:
        for number, result in enumerate(pool.map(simulate, jobs, chunksize=4), 1):
            results.append(result)
            if progress:
                progress(number, len(jobs))
    return results


def jobs_for(
    worlds: dict[str, WorldSpec], choices: dict[str, dict[str, Any]], seeds: Sequence[int], num_rounds: int
) -> list[Job]:
    return [
        Job(name, spec, policy, settings, seed, num_rounds)
        for name, spec in worlds.items()
        for seed in seeds
        for policy, settings in choices.items()
    ]


def tune(
    worlds: dict[str, WorldSpec],
    policies: Sequence[str],
    num_rounds: int,
    num_processes: int,
    progress: Progress | None,
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """(settings by policy, table): one setting per policy, that with the highest mean gain over all worlds and tuning
    seeds. Every policy with more than one setting is tuned, the paper's too."""
    jobs = [
        Job(name, spec, policy, settings, seed, num_rounds)
        for policy in policies
        if len(ENTRANTS[policy].grid) > 1
        for settings in ENTRANTS[policy].grid
        for name, spec in worlds.items()
        for seed in TUNING_SEEDS
    ]
    gains: dict[str, list[tuple[dict[str, Any], list[float]]]] = {}
    for job, result in zip(jobs, simulate_all(jobs, num_processes, progress), strict=True):
        tried = gains.setdefault(job.policy, [])
        if not tried or tried[-1][0] != job.settings:
            tried.append((job.settings, []))
        tried[-1][1].append(result["gain"])
    table: list[dict[str, Any]] = [
        {"policy": policy, "settings": settings, "gain": sum(values) / len(values)}
        for policy, tried in gains.items()
        for settings, values in tried
    ]
    chosen = {policy: dict(ENTRANTS[policy].grid[0]) for policy in policies}
    for policy in gains:
        rows = [row for row in table if row["policy"] == policy]
        chosen[policy] = dict(max(rows, key=lambda row: row["gain"])["settings"])
    return chosen, table
