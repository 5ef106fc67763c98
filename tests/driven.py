"""A run as the driver holds it, without anything that takes part in it: for tests of ledger, events and observers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.resume import ResumeRequest
from bohdi_ray.driver.session import ActiveRun, active_run
from bohdi_ray.observe.observers import Observer, all_observers
from bohdi_ray.run.run_dir import RunDir


def driven(
    config: FusionConfig,
    run: RunDir,
    work: Callable[[ActiveRun], object],
    *observers: Observer,
    request: ResumeRequest | None = None,
) -> ActiveRun:
    """Calls `work` while the run is held, with these observers, or all that a run has. Returns what was held."""

    async def drive() -> ActiveRun:
        make = (lambda config, run: observers) if observers else all_observers
        async with active_run(config, run, make, time.time(), request) as (active, _):
            work(active)
        return active

    return asyncio.run(drive())
