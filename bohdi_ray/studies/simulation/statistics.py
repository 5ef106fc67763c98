"""Intervals over seeds, and the rule by which a policy may become the default."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bohdi_ray.studies.simulation.metrics import samples_to
from bohdi_ray.studies.simulation.policies import ENTRANTS, PAPER, REFERENCE

LEVEL = 0.95


def interval(values: Sequence[float], num_comparisons: int = 1) -> dict[str, float]:
    """Student's t interval of the mean at 95 %; with several comparisons at 1 - 0.05 / that many (Bonferroni)."""
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "low": math.nan, "high": math.nan}
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(t.ppf(1 - (1 - LEVEL) / (2 * num_comparisons), len(values) - 1)) * error
    return {"mean": mean, "low": mean - half, "high": mean + half}


def add_distances_to_oracle(results: list[dict[str, Any]]) -> None:
    """Adds `samples_to_90`, `censored` and `regret` to every result that has an oracle on the same world and seed.

    A run that never reaches 90 % of the oracle's final gain counts with all its samples, a lower bound.
    """
    oracles = {(r["world"], r["seed"]): r for r in results if r["policy"] == "oracle"}
    for result in results:
        oracle = oracles.get((result["world"], result["seed"]))
        if oracle is None:
            continue
        reached = samples_to(result["samples"], result["curve"], 0.9 * oracle["gain"])
        result["censored"] = reached is None
        result["samples_to_90"] = float(result["samples"][-1] if reached is None else reached)
        result["regret"] = float(np.mean(np.subtract(oracle["curve"], result["curve"])))


def pick(results: list[dict[str, Any]], key: str, policy: str, world: str | None = None) -> dict[Any, float]:
    """A figure by (world, seed), without runs that do not have it."""
    return {
        (r["world"], r["seed"]): r[key]
        for r in results
        if r["policy"] == policy and world in (None, r["world"]) and r.get(key) is not None
    }


def over_seeds(results: list[dict[str, Any]], key: str, policy: str) -> list[float]:
    """A figure by seed, averaged over the worlds, because seeds are independent but worlds of one seed share draws."""
    by_seed: dict[int, list[float]] = {}
    for (_, seed), value in pick(results, key, policy).items():
        by_seed.setdefault(seed, []).append(value)
    return [float(np.mean(values)) for values in by_seed.values()]


def paired(
    results: list[dict[str, Any]],
    key: str,
    policy: str,
    world: str | None,
    num_comparisons: int,
    other: str = REFERENCE,
) -> dict[str, float]:
    """Interval of the difference of a figure between two policies on the same world and seed; over all worlds if none
    is given."""
    if world is None:
        ours, theirs = over_seeds(results, key, policy), over_seeds(results, key, other)
        return interval([a - b for a, b in zip(ours, theirs, strict=True)], num_comparisons)
    mine, reference = pick(results, key, policy, world), pick(results, key, other, world)
    return interval([mine[at] - reference[at] for at in sorted(mine)], num_comparisons)


def claims(results: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """The paper's comparisons: the bandit against uniform walks, and with rebirth against without. For each pair and
    figure the paired interval by world, and over all worlds (`all`); plain 95 % intervals."""
    worlds = list(dict.fromkeys(r["world"] for r in results))
    present = {r["policy"] for r in results}
    pairs = [(a, b) for a in (REFERENCE, PAPER) for b in ("uniform", "dynabranches_no_ir") if {a, b} <= present]
    return {
        f"{a} - {b}": {
            key: {world or "all": paired(results, key, a, world, 1, other=b) for world in [*worlds, None]}
            for key in ("gain", "worst_gap")
        }
        for a, b in pairs
    }


def verdict(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Which challengers pass the rule: gain above the reference's on most worlds, clearly below on none.

    Above and below: the paired interval, corrected for the number of challengers, is on that side of 0. Among several
    the one with the highest mean gain over all worlds is recommended; `rivals` compares the others that pass with it.
    """
    worlds = list(dict.fromkeys(r["world"] for r in results))
    present = {r["policy"] for r in results}
    challengers = [name for name in ENTRANTS if name in present and ENTRANTS[name].challenger]
    if REFERENCE not in present:
        return {"challengers": {}, "recommended": None}
    table: dict[str, dict[str, Any]] = {}
    for name in challengers:
        gains = {world: paired(results, "gain", name, world, len(challengers)) for world in worlds}
        better = [world for world, gain in gains.items() if gain["low"] > 0]
        worse = [world for world, gain in gains.items() if gain["high"] < 0]
        overall = paired(results, "gain", name, None, len(challengers))
        passes = len(better) > len(worlds) / 2 and not worse
        table[name] = {"gains": gains, "overall": overall, "better": better, "worse": worse, "passes": passes}
    passing = [name for name in challengers if table[name]["passes"]]
    best = max(passing, key=lambda name: table[name]["overall"]["mean"], default=None)
    others = [name for name in passing if name != best] if best else []
    rivals = {
        name: {
            world or "all": paired(results, "gain", name, world, len(others), other=str(best))
            for world in [*worlds, None]
        }
        for name in others
    }
    return {"challengers": table, "recommended": best or REFERENCE, "num_worlds": len(worlds), "rivals": rivals}
