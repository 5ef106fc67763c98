"""Chooses which replica of a model gets the next requests. Pure; used inside harvest tasks, published by the driver's
pools.

A harvest task holds one immutable `RoutingTable` and counts only its own requests. Choosing the less loaded of two
random replicas by such local counts spreads the load of many tasks nearly as well as global knowledge would
(Mitzenmacher, "The power of two choices in randomized load balancing", 2001), and needs no shared state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Replica:
    """One engine: its id, unique over the run, and the handle that reaches it."""

    replica_id: str
    handle: Any  # a Ray actor handle; opaque here


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Which replicas serve which model at one moment. A later table has a higher `version`."""

    version: int
    sources: tuple[str, ...]  # names of the sources in use
    target: str
    replicas: Mapping[str, tuple[Replica, ...]]  # by model name
    weights_version: int  # of every target replica listed


def choose(replicas: tuple[Replica, ...], in_flight: Mapping[str, int], rng: np.random.Generator) -> Replica:
    """The less loaded of two replicas drawn at random; the first one drawn wins a tie.

    `in_flight` counts this task's own requests by replica id. Raises ValueError when there is no replica.
    """
    if not replicas:
        raise ValueError("no replica to choose from")
    num = len(replicas)
    if num == 1:
        return replicas[0]
    # One number for the ordered pair: it is drawn for every request, and `rng.choice` takes six times as long.
    first, second = divmod(int(rng.integers(num * (num - 1))), num - 1)
    a, b = replicas[first], replicas[second + (second >= first)]
    return a if in_flight.get(a.replica_id, 0) <= in_flight.get(b.replica_id, 0) else b
