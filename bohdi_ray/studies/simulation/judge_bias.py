"""The judge's position bias: its effect on rewards, in closed form, and on a fusion, by simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bohdi_ray.studies.simulation.judge import loss_probability
from bohdi_ray.studies.simulation.policies import REFERENCE, tuned
from bohdi_ray.studies.simulation.report import table
from bohdi_ray.studies.simulation.statistics import interval, pick
from bohdi_ray.studies.simulation.study import Job, simulate_all
from bohdi_ray.studies.simulation.world_spec import JudgeSpec, WorldSpec

ORDERS = ("shuffled", "target_first")
BONUSES = (0.0, 0.5, 1.0, 1.5, 2.0)
GAPS = np.linspace(-1.0, 3.0, 41)


def judged(spec: WorldSpec, order: str, bonus: float) -> WorldSpec:
    """The world with another judge."""
    judge = JudgeSpec.model_validate({**spec.judge.model_dump(), "order": order, "first_slot_bonus": bonus})
    return spec.model_copy(update={"judge": judge})


def reward_rates(spec: WorldSpec, order: str, bonus: float, gaps: np.ndarray = GAPS) -> np.ndarray:
    """Probability of reward 1 by the target's distance below three equal sources, shape of `gaps`."""
    return loss_probability(np.zeros((3, len(gaps))), -gaps, spec.noise, judged(spec, order, bonus).judge)


def study_judge_bias(
    world: str,
    spec: WorldSpec,
    seeds: Sequence[int],
    num_rounds: int,
    num_processes: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(report, runs): dynabranches in the world with every order and bonus. A run's `policy` says which."""
    cases = [(order, bonus) for order in ORDERS for bonus in BONUSES]
    jobs = [
        Job(world, judged(spec, order, bonus), REFERENCE, tuned(REFERENCE), seed, num_rounds)
        for order, bonus in cases
        for seed in seeds
    ]
    runs = simulate_all(jobs, num_processes, progress)
    for number, run in enumerate(runs):
        order, bonus = cases[number // len(seeds)]
        run["policy"] = f"{order} {bonus}"
    return _report(spec, runs, world, list(seeds)), runs


def _report(spec: WorldSpec, runs: list[dict[str, Any]], world: str, seeds: list[int]) -> dict[str, Any]:
    rates = {order: {str(bonus): reward_rates(spec, order, bonus).tolist() for bonus in BONUSES} for order in ORDERS}
    unbiased = {key: pick(runs, key, "shuffled 0.0") for key in ("gain", "behind", "worst_gap")}
    cases = {}
    for order in ORDERS:
        for bonus in BONUSES:
            name = f"{order} {bonus}"
            mine = {key: pick(runs, key, name) for key in unbiased}
            cases[name] = {
                "level": float(reward_rates(spec, order, bonus, np.array([0.0]))[0]),
                "behind_by_one": float(reward_rates(spec, order, bonus, np.array([1.0]))[0]),
                **{key: interval(list(values.values())) for key, values in mine.items()},
                "paired_gain": interval([mine["gain"][at] - unbiased["gain"][at] for at in mine["gain"]]),
            }
    return {
        "world": world,
        "seeds": seeds,
        "gaps": GAPS.tolist(),
        "bonuses": list(BONUSES),
        "rates": rates,
        "cases": cases,
    }


def bias_table(report: dict[str, Any], markdown: bool = False) -> str:
    heading = [
        "order, bonus",
        "reward at level",
        "reward 1.0 behind",
        "behind %",
        "worst gap",
        "gain",
        "against no bias",
    ]
    lines = []
    for name, case in report["cases"].items():
        paired = case["paired_gain"]
        lines.append(
            [
                name.replace(" ", ", ").replace("_", " "),
                f"{case['level']:.3f}",
                f"{case['behind_by_one']:.3f}",
                f"{100 * case['behind']['mean']:.0f}",
                f"{case['worst_gap']['mean']:.2f}",
                f"{case['gain']['mean']:.3f}",
                f"{paired['mean']:+.3f} [{paired['low']:+.3f}, {paired['high']:+.3f}]",
            ]
        )
    return table(heading, lines, markdown)
