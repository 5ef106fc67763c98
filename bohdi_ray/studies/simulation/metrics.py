"""Figures of one simulated fusion. Skills in quality units, over all leaves of the world, found or not."""

from __future__ import annotations

from typing import Any

import numpy as np

from bohdi_ray.studies.simulation.fusion import Trace
from bohdi_ray.studies.simulation.judge import loss_probability
from bohdi_ray.studies.simulation.world import World

RECENT = 20  # rewards that say what a node's rate is now
UNCHANGED = 0.1  # a rebirth is false if the true rate is within this of the history's
BEHIND = 0.5  # quality units below the best source where samples count as well spent
CHANGED = 0.2  # a change is missed if the true rate differs by this or more and there is no rebirth


def summarise(world: World, trace: Trace, tests: bool) -> dict[str, Any]:
    """The figures of a fusion. `tests`: whether the policy tests nodes for changes, so that false and missed rebirths
    are defined."""
    skills = np.array(trace.skills)
    gain = skills.mean(axis=1) - skills[0].mean()
    final = skills[-1]
    gap = world.sources_in(world.num_rounds).max(axis=0) - final
    rates = [
        loss_probability(world.sources_in(r), trace.skills[version], world.spec.noise, world.spec.judge)
        for r, version in enumerate(trace.versions)
    ]
    behind = rewards = 0
    for r, credits in enumerate(trace.credits):
        best, skill = world.sources_in(r).max(axis=0), trace.skills[trace.versions[r]]
        leaves = np.array([credit.leaf for credit in credits], dtype=int)
        behind += int((skill[leaves] < best[leaves] - BEHIND).sum())
        rewards += sum(credit.reward for credit in credits)
    num_samples = max(1, trace.num_samples[-1])
    return {
        "mean_skill": float(final.mean()),
        "gain": float(gain[-1]),
        "worst_skill": float(final.min()),
        "worst_gap": float(gap.max()),
        "balance": float(gap.std()),
        "behind": behind / num_samples,
        "loss_rate": rewards / num_samples,
        "samples": [0, *trace.num_samples],
        "curve": gain.round(6).tolist(),
        "found": len({credit.leaf for credits in trace.credits for credit in credits}) / world.num_leaves,
        "num_abandoned": trace.stats["num_abandoned"],
        "num_rebirths": trace.stats["num_rebirths"],
        **(_rebirths(trace, rates) if tests else dict.fromkeys(("false_rebirths", "missed_changes"))),
    }


def _rebirths(trace: Trace, rates: list[np.ndarray]) -> dict[str, float | None]:
    """Shares of tests with a wrong result, over all nodes and rounds with at least RECENT rewards since the last
    rebirth.

    Compares the true loss rates that generated a node's last RECENT rewards with those of all rewards since its last
    rebirth: this is what a test could know, without the randomness of the rewards.
    """
    history: dict[Any, list[float]] = {}
    same = false = changed = missed = 0
    for r, credits in enumerate(trace.credits):
        for credit in credits:
            node = credit.node
            while node.parent is not None:
                history.setdefault(node, []).append(float(rates[r][credit.leaf]))
                node = node.parent
        if r + 1 == len(trace.versions) or trace.versions[r + 1] == trace.versions[r]:
            continue  # no test before a round that meets the same target
        reborn = {rebirth.path: rebirth for rebirth in trace.closed[r].reborn}
        for node, seen in history.items():
            if len(seen) < RECENT:
                continue
            change = abs(sum(seen[-RECENT:]) / RECENT - sum(seen) / len(seen))
            rebirth = reborn.get(node.path) if reborn else None
            if change < UNCHANGED:
                same += 1
                false += rebirth is not None
            elif change >= CHANGED:
                changed += 1
                missed += rebirth is None
            if rebirth is not None:
                kept = round(rebirth.after[0] + rebirth.after[1] - 2)
                del seen[: max(0, len(seen) - kept)]
    return {
        "false_rebirths": false / same if same else None,
        "missed_changes": missed / changed if changed else None,
    }


def samples_to(samples: list[int], curve: list[float], level: float) -> float | None:
    """Number of samples after which the gain first reaches `level`, interpolated linearly between rounds; None:
    never."""
    for i, value in enumerate(curve):
        if value >= level:
            if i == 0:
                return 0.0
            part = (level - curve[i - 1]) / (value - curve[i - 1])
            return samples[i - 1] + part * (samples[i] - samples[i - 1])
    return None
