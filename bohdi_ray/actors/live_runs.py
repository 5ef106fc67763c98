"""The runs that are active on a cluster, and whether they answer: for `bohdi status --address`.

Finds the actors of runs by their Ray names (`bohdi_ray/names.py`) and asks two of each run for its counters. This only
reads: the actor handles that it gets keep no actor alive.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from bohdi_ray.names import PREFIX

ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class LiveRun:
    """One run on a cluster. `tree` and `queue` are None when they do not answer."""

    name: str
    engines: Counter[str] = field(default_factory=Counter)  # by "source/<name>" and "target"
    location: str | None = None
    tree: dict[str, Any] | None = None
    queue: Any = None  # QueueStatus

    @property
    def answers(self) -> bool:
        return self.tree is not None and self.queue is not None

    def line(self) -> str:
        """The state of the run on one line: round, samples, tickets in flight, trainer, engines."""
        counts = ", ".join(f"{name} {number}" for name, number in sorted(self.engines.items()))
        engines = f"; engines: {counts}" if counts else ""
        where = "" if self.location is None else f" in {self.location}"
        if self.tree is None or self.queue is None:
            silent = "its tree manager" if self.tree is None else "its sample queue"
            return f"{self.name}{where}: {silent} does not answer{engines}"
        trainer = "has steps to work on" if self.queue.busy else "waits for rows"
        return (
            f"{self.name}{where}: round {self.tree['round']}, {self.tree['num_committed']} samples, "
            f"{self.tree['num_in_flight']} tickets in flight; the trainer {trainer} "
            f"({self.queue.num_rows_queued} rows queued){engines}"
        )


def live_runs() -> list[LiveRun]:
    """The runs on the cluster that this process has joined, by name."""
    actors: dict[str, list[str]] = defaultdict(list)
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["name"].startswith(f"{PREFIX}/"):
            actors[actor["namespace"]].append(actor["name"])
    return sorted((_run(namespace, names) for namespace, names in actors.items()), key=lambda run: run.name)


def _run(namespace: str, names: list[str]) -> LiveRun:
    run = names[0].split("/")[1]
    engines: Counter[str] = Counter()
    for name in names:
        role, _, rest = name.removeprefix(f"{PREFIX}/{run}/").partition("/")
        if role in ("source", "target"):
            engines["target" if role == "target" else f"source/{rest.rpartition('/')[0]}"] += 1
    tree, queue = f"{PREFIX}/{run}/tree", f"{PREFIX}/{run}/queue"
    return LiveRun(
        name=run,
        engines=engines,
        location=_ask(tree, namespace, "location"),
        tree=_ask(tree, namespace, "stats"),
        queue=_ask(queue, namespace, "status"),
    )


def _ask(name: str, namespace: str, method: str) -> Any:
    """The actor's answer; None if there is no such actor, or it gives none in time."""
    try:
        return ray.get(getattr(ray.get_actor(name, namespace), method).remote(), timeout=ANSWER_S)
    except (ValueError, RayError):  # GetTimeoutError is one of Ray's
        return None
