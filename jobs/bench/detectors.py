"""Change detectors on simulated rewards: `python jobs/bench/detectors.py`; one core, about 15 s, fixed seeds.

Prints three tables in Markdown, made with the policies' own `introspect`, then one JSON object with the same figures:
- by test: how often one test alarms although nothing changed, by the number of rewards since the last rebirth (the
  window's included) and their rate;
- by node: a run of rounds in which nothing changes; after each every domain is tested, as for new weights. Alarms per
  node, rounds with any alarm among `DOMAINS` domains, and the posterior mean's error at the end;
- shifts: after `HISTORY` rewards the rate of one domain in five jumps. How many are seen in time, and the error.
The error is the root mean square of posterior mean minus rate.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable

import numpy as np
from smoke import parse

from bohdi_ray.config import BANDITS
from bohdi_ray.randomness import generator
from bohdi_ray.tree.introspection import two_sample_test
from bohdi_ray.tree.policies import make_policy
from bohdi_ray.tree.policies.corrected_swblrt import CorrectedSwblrt
from bohdi_ray.tree.policies.policy import Policy
from bohdi_ray.tree.policies.thompson import ThompsonSampling

LENGTHS = (20, 40, 60, 100, 200, 400, 1000)
RATES = (0.1, 0.3, 0.5, 0.7, 0.9)
SHIFTS = ((0.7, 0.3), (0.7, 0.5), (0.5, 0.3), (0.9, 0.6), (0.3, 0.7))
NUM_TESTS = 20_000
TREES, DOMAINS, ROUNDS, HISTORY = 100, 30, 20, 100
EVERY = (5, 20)  # rewards a domain gets between two tests


def detector(policy: str, **settings: float) -> Policy:
    return make_policy(BANDITS[policy](**settings))


# Every setting is named here, so that the figures of docs/detectors.md outlive a change of defaults.
DETECTORS: dict[str, Policy] = {
    "SWBLRT, u = 0.2": detector("dynabranches", window=20, threshold=0.2),
    "SWBLRT, u = 0.1": detector("dynabranches", window=20, threshold=0.1),
    "SWBLRT, u = 0.05": detector("dynabranches", window=20, threshold=0.05),
    "GLR, delta = 0.05": detector("glr_thompson", window=200, false_alarm_rate=0.05),
    "corrected SWBLRT, 0.05": detector("corrected_swblrt", window=20, false_alarm_rate=0.05),
    "corrected SWBLRT, 0.2": detector("corrected_swblrt", window=20, false_alarm_rate=0.2),
    "corrected SWBLRT, 0.05, w = 40": detector("corrected_swblrt", window=40, false_alarm_rate=0.05),
}


class Domains:
    """n domains, each with its posterior and its rewards since the last rebirth (and no longer ago)."""

    def __init__(self, policy: Policy, num: int):
        self.policy = policy
        self.rewards = np.zeros((num, 0), np.uint8)  # all since the start: [n, t]
        self.wins = np.zeros(num, np.int64)
        self.num = np.zeros(num, np.int64)

    def take(self, rewards: np.ndarray) -> None:
        """Rewards of every domain, shape [n, k]."""
        self.rewards = np.concatenate((self.rewards, rewards), axis=1)
        self.wins += rewards.sum(axis=1, dtype=np.int64)
        self.num += rewards.shape[1]

    def test(self, groups: Iterable[slice]) -> np.ndarray:
        """Tests the domains of each tree together; those that changed are reborn. Shape [n]."""
        changed = np.zeros(len(self.wins), bool)
        length = self.policy.max_window
        if self.rewards.shape[1] < self.policy.min_window:
            return changed
        windows = [row.tobytes() for row in self.rewards[:, -length:]]
        alpha, beta = 1.0 + self.wins, 1.0 + self.num - self.wins
        for group in groups:
            for change in self.policy.introspect(alpha[group], beta[group], windows[group]):
                i = group.start + change.index
                changed[i] = True
                self.wins[i], self.num[i] = change.alpha - 1, change.alpha + change.beta - 2
        return changed

    def error(self, rates: np.ndarray) -> np.ndarray:
        """Squared error of the posterior mean, shape [n]."""
        return ((1 + self.wins) / (2 + self.num) - rates) ** 2


def draws(rng: np.random.Generator, rates: np.ndarray, num: int) -> np.ndarray:
    return (rng.random((len(rates), num)) < rates[:, None]).astype(np.uint8)


def one_by_one(policy: Policy, rewards: np.ndarray) -> np.ndarray:
    """Which of the domains, shape [n, t], alarms if it were the only one there is."""
    if isinstance(policy, CorrectedSwblrt):  # it would correct for n; for one domain the p-value decides
        window = policy.max_window
        new, old = rewards[:, -window:], rewards[:, :-window]
        sizes = (np.full(len(rewards), part.shape[1]) for part in (new, old))
        wins = (part.sum(axis=1, dtype=np.int64) for part in (new, old))
        _, p_values, _ = two_sample_test(next(wins), next(sizes), next(wins), next(sizes))
        return p_values <= policy.config.false_alarm_rate
    domains = Domains(policy, len(rewards))
    domains.take(rewards)
    return domains.test([slice(0, len(rewards))])


def by_test(name: str, policy: Policy) -> dict[str, dict[str, float]]:
    """Alarms per test, by rate and number of rewards."""
    found: dict[str, dict[str, float]] = {}
    for rate in RATES:
        rewards = draws(generator(1, name, int(rate * 10), "bench"), np.full(NUM_TESTS, rate), max(LENGTHS))
        found[str(rate)] = {}
        for length in LENGTHS:
            alarms = one_by_one(policy, rewards[:, :length])
            found[str(rate)][str(length)] = round(float(alarms.mean()), 4)
    return found


def trees() -> list[slice]:
    return [slice(start, start + DOMAINS) for start in range(0, TREES * DOMAINS, DOMAINS)]


def by_node(name: str, policy: Policy, every: int) -> dict[str, float]:
    """A run of `ROUNDS` rounds without any change, domains of all `RATES`."""
    rates = np.resize(RATES, TREES * DOMAINS)
    rng, domains = generator(2, name, every, "bench"), Domains(policy, len(rates))
    alarms = np.zeros((ROUNDS, TREES, DOMAINS), bool)
    for round in range(ROUNDS):
        domains.take(draws(rng, rates, every))
        alarms[round] = domains.test(trees()).reshape(TREES, DOMAINS)
    return {
        "alarms_per_node": round_(alarms.sum() / (TREES * DOMAINS)),
        "nodes_with_alarm": round_(alarms.any(axis=0).mean()),
        "rounds_with_alarm": round_(alarms.any(axis=2).mean()),
        "error": round_(np.sqrt(domains.error(rates).mean())),
    }


def shifted(name: str, policy: Policy, before: float, after: float, every: int = 10) -> dict[str, float | None]:
    """After `HISTORY` rewards every fifth domain jumps from `before` to `after`, the others stay at `before`."""
    jumps = np.arange(TREES * DOMAINS) % 5 == 0
    old = np.full(len(jumps), before)
    new = np.where(jumps, after, before)
    rng, domains = generator(3, name, int(100 * before + 10 * after), "bench"), Domains(policy, len(jumps))
    domains.take(draws(rng, old, HISTORY))
    delay = np.full(len(jumps), np.inf)
    errors = {}
    for num_new in range(every, HISTORY + 1, every):
        domains.take(draws(rng, new, every))
        delay[domains.test(trees()) & np.isinf(delay)] = num_new
        if num_new in (20, 40, 100):
            errors[f"error_{num_new}"] = round_(np.sqrt(domains.error(new)[jumps].mean()))
    found = delay[jumps]
    middle = float(np.median(found))
    return {
        **{f"seen_{limit}": round_((found <= limit).mean()) for limit in (20, 40, 100)},
        "median_delay": middle if np.isfinite(middle) else None,
        **errors,
    }


def round_(value: float) -> float:
    return round(float(value), 3)


def table(head: list[str], rows: Iterable[list[object]]) -> None:
    print("|", " | ".join(head), "|")
    print("|" + "---|" * len(head))
    for row in rows:
        print("|", " | ".join(map(str, row)), "|")
    print(flush=True)


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def median(delay: float | None) -> str:
    return "never" if delay is None else f"{delay:g}"


def print_tables(figures: dict) -> None:
    print(f"\nAlarms per 100 tests without a change, {NUM_TESTS} tests each, by rewards since rebirth\n")
    table(
        ["detector", "rate", *map(str, LENGTHS)],
        (
            [name, rate, *map(percent, row.values())]
            for name, rows in figures["by_test"].items()
            for rate, row in rows.items()
        ),
    )
    print(f"{ROUNDS} rounds without a change, {DOMAINS} domains tested together, {TREES} trees\n")
    table(
        [
            "detector",
            "rewards per round",
            "alarms per node",
            "nodes with any, %",
            "rounds with any, %",
            "error at the end",
        ],
        (
            [
                *(name, every, row["alarms_per_node"]),
                *(percent(row["nodes_with_alarm"]), percent(row["rounds_with_alarm"]), row["error"]),
            ]
            for name, rows in figures["by_node"].items()
            for every, row in rows.items()
        ),
    )
    print(f"A jump after {HISTORY} rewards of every fifth of {DOMAINS} domains, tested every 10 rewards\n")
    head = ["jump", "detector", "seen after 20, %", "after 40", "after 100", "median delay"]
    table(
        [*head, "error after 20", "after 40", "after 100"],
        (
            [jump, name, *(percent(row[f"seen_{n}"]) for n in (20, 40, 100)), median(row["median_delay"])]
            + [row[f"error_{n}"] for n in (20, 40, 100)]
            for jump, rows in figures["shifts"].items()
            for name, row in rows.items()
        ),
    )


def main() -> None:
    global NUM_TESTS, TREES
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    if parse(parser).smoke:
        NUM_TESTS, TREES = 200, 2
    never = {"no detector": ThompsonSampling(BANDITS["uniform"]())}
    figures = {
        "by_test": {name: by_test(name, policy) for name, policy in DETECTORS.items()},
        "by_node": {
            name: {str(every): by_node(name, policy, every) for every in EVERY}
            for name, policy in (never | DETECTORS).items()
        },
        "shifts": {
            f"{before} to {after}": {
                name: shifted(name, policy, before, after) for name, policy in (never | DETECTORS).items()
            }
            for before, after in SHIFTS
        },
    }
    print_tables(figures)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
