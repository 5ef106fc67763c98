"""Turns: who is on the cards when harvest and training share them (`placement: colocate`). Owned by the driver's pools.

The harvest's turn ends once every engine sleeps, or is gone; only then are the round's rows put into the queue, which
is all the trainer waits for. The training's turn ends once every rank says that it rests; only then do engines wake.
Engines start in the harvest's turn alone, one at a time, for vLLM measures what its card has left. With `placement:
separate` it is always everybody's turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ray.exceptions import RayError

from bohdi_ray.config import FusionConfig, VllmModel
from bohdi_ray.deadlines import within
from bohdi_ray.errors import SEE_LOGS, BohdiError, DeadlineExceeded
from bohdi_ray.placement.pools.replicas import Engine, Pool

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
FREED_S = 5.0  # for the processes of an engine that was killed to leave its card


class GpuTimeSharing:
    """Async; every method runs on the driver's event loop."""

    def __init__(self, config: FusionConfig, pools: Mapping[str, Pool]):
        self._config, self._pools = config, pools
        self._colocated = config.colocates
        self._one_starts = asyncio.Lock()
        self._harvests = asyncio.Event()  # it is the harvest's turn
        self.engines_sleep = False

    @contextlib.asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        """Around the start of one engine. Waits for the harvest's turn, which does not end before the start has."""
        if not self._colocated:
            yield
            return
        while True:
            await self._harvests.wait()
            async with self._one_starts:
                if self._harvests.is_set():
                    yield
                    return

    def begin_harvest(self) -> None:
        """Engines may start."""
        self._harvests.set()

    async def end_harvest(self) -> None:
        """Every engine leaves its card. Waits for: an engine that is starting, requests in flight."""
        self._harvests.clear()
        async with self._one_starts:
            self.engines_sleep = True
        if not all(await self._engines("sleep")):
            await asyncio.sleep(FREED_S)

    async def wake_engines(self) -> None:
        """Every engine is on its card again."""
        await self._engines("wake")
        self.engines_sleep = False

    async def _engines(self, do: str) -> list[bool]:
        """Whether each did it in time. One that did not is killed: the pools' watch sees it dead and replaces it, in
        the harvest's turn."""

        async def one(replica_id: str, engine: Engine) -> bool:
            seconds = self._config.deadlines.weights_s
            try:
                await within(getattr(engine.handle, do).remote(), seconds, f"{replica_id} to {do}", "it is replaced")
            except (BohdiError, RayError) as error:
                log.warning("%s did not %s (%s); it is replaced", replica_id, do, error)
                engine.kill()
                return False
            return True

        hosted = [pool for pool in self._pools.values() if isinstance(pool.model, VllmModel)]
        return await asyncio.gather(*(one(*item) for pool in hosted for item in list(pool.engines.items())))

    async def trainer_rests(self, queue: Any, trainer: Any, num_rounds: int) -> None:
        """Returns once no rank of the trainer is on its card, after up to `num_rounds` that it has rows for.

        Raises DeadlineExceeded, and what ended the trainer.
        """
        deadlines, steps_per_round = self._config.deadlines, self._config.most_steps_per_round
        seconds = deadlines.start_s + (num_rounds * (steps_per_round + 1) + 1) * deadlines.train_step_s
        deadline = time.monotonic() + seconds
        while not await within(queue.wait_rests.remote(LOOK_EVERY_S), 60, "the sample queue", SEE_LOGS):
            await asyncio.to_thread(trainer.raise_if_dead)
            if time.monotonic() > deadline:
                raise DeadlineExceeded("the trainer to leave its GPUs", seconds, "see the train workers' logs")
