"""What a pool consists of: engines with their placement groups, and how many there are, come and go.

Kept by the driver's pools, which alone change it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from bohdi_ray.config import OpenAIModel, VllmModel
from bohdi_ray.deadlines import within
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.errors import BohdiError, ConfigError, NoRoom
from bohdi_ray.placement.capacity import Bundle
from bohdi_ray.placement.placement import engine_bundles
from bohdi_ray.placement.pools.placement_groups import EngineGroup
from bohdi_ray.placement.pools.scaling import ScalingState

log = logging.getLogger(__name__)

STOP_S = 30.0  # for an engine to stop by itself

# Makes the actor of one replica of a model in its placement group; for the target it starts on (version, weights
# folder).
EngineMaker = Callable[[VllmModel | OpenAIModel, str, int, str | None, EngineGroup], Any]


@dataclass(slots=True)
class Engine:
    """One replica's actor and its room."""

    handle: Any
    group: EngineGroup

    def kill(self) -> None:
        """Ends the actor and frees its room. May be called again."""
        try:
            ray.kill(self.handle)
        finally:
            self.group.give_back()

    async def end(self, at_once: bool = False) -> None:
        """The same, gently first unless `at_once`."""
        try:
            with contextlib.suppress(BohdiError, RayError):
                if not at_once:
                    await within(self.handle.stop.remote(), STOP_S, "an engine to stop", "it is killed")
        finally:
            self.kill()

    async def drain(self, seconds: float, replica_id: str) -> None:
        """The same, once its requests are answered; no new ones get in. Whatever is left after `seconds` is cut off."""
        try:
            await within(self.handle.retire.remote(), seconds, f"{replica_id} to end its requests", "it is ended")
        except (BohdiError, RayError) as error:
            log.warning("%s did not drain (%s)", replica_id, error)
        await self.end()


@dataclass(slots=True)
class Pool:
    """The replicas of one model."""

    model: VllmModel | OpenAIModel
    is_target: bool
    wanted: int = field(init=False)  # replicas it is to have now
    engines: dict[str, Engine] = field(default_factory=dict)  # those that serve, by replica id
    num_made: int = 0
    num_starting: int = 0  # not counting tries to bring back what was given up
    num_given_up: int = 0  # to be brought back
    num_draining: int = 0
    growing: list[asyncio.Task[None]] = field(default_factory=list)  # starts that a shrinking pool breaks off first
    was_up: bool = False
    num_short: int = 0  # tries to grow in a row that came to nothing
    grows_again_at: float = 0.0  # time.monotonic(); earlier only where there is room by then
    scaling: ScalingState = field(default_factory=ScalingState)
    seen: dict[str, EngineStats] = field(default_factory=dict)  # at the last look, by replica id
    busy_at: float = 0.0  # time.monotonic() when it last had requests, as far as looks tell

    def __post_init__(self) -> None:
        self.wanted = self.least

    @property
    def least(self) -> int:
        """Replicas there always are, if there is room."""
        return self.model.replicas.min if isinstance(self.model, VllmModel) else 1

    @property
    def size(self) -> int:
        """Replicas that serve or will."""
        return len(self.engines) + self.num_starting + self.num_given_up

    def pause_growth(self, first_s: float, longest_s: float) -> None:
        """It did not come to more engines: each pause is twice the one before."""
        self.grows_again_at = time.monotonic() + min(longest_s, first_s * 2.0 ** min(self.num_short, 20))
        self.num_short += 1

    def may_miss_one(self, error: Exception, stops_short: bool) -> bool:
        """Whether a replica that does not start, with `error`, is no reason to end the run, as far as this model goes.
        It is counted in `num_starting`."""
        if isinstance(error, ConfigError) and not self.was_up:
            return False
        if isinstance(error, NoRoom) and stops_short:
            return False
        if not self.is_target:
            return True
        # The target is needed: another of its engines must be there, or on its way.
        another = len(self.engines) + self.num_starting > 1
        return len(self.engines) >= self.least or (isinstance(error, NoRoom) and another)

    def least_loaded(self) -> list[str]:
        """Those that serve, by the requests they had at the last look, the newest of equals first."""

        def load(replica_id: str) -> int:
            stats = self.seen.get(replica_id)
            return 0 if stats is None else stats.num_in_flight + stats.num_waiting

        return sorted(reversed(self.engines), key=load)

    def bundles(self, replica_id: str) -> list[Bundle]:
        """What one replica needs of the cluster."""
        return engine_bundles(self.model, replica_id) if isinstance(self.model, VllmModel) else []

    @contextlib.contextmanager
    def one_starts(self) -> Iterator[None]:
        self.num_starting += 1
        try:
            yield
        finally:
            self.num_starting -= 1
