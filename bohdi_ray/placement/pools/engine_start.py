"""Starts one engine in its placement group: process, model, for the target its current weights. Each wait has a
deadline.

Called by the driver's pools, which decide what becomes of an engine that does not make it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bohdi_ray.config import DeadlineConfig, OpenAIModel, VllmModel
from bohdi_ray.deadlines import within
from bohdi_ray.errors import SEE_LOGS, ConfigError, DeadlineExceeded, NoRoom, RemoteFailed

MOST_STARTS = 3  # of one replica in a row before the run gives up on it, for now if it is a source's

Weights = tuple[int, str | None]  # version, folder; the folder is the target's


async def start_engine(
    model: VllmModel | OpenAIModel,
    replica_id: str,
    handle: Any,
    weights: Weights,
    weights_now: Callable[[], Weights],
    deadlines: DeadlineConfig,
) -> None:
    """Returns once the engine is up, on `weights_now`, and, where it is remote, its server has answered.

    `weights` are those the actor was made with. Raises DeadlineExceeded, RemoteFailed, and what the start raises.
    """
    await within(
        up(handle),
        deadlines.start_s,
        f"engine {replica_id} to start",
        f"{SEE_LOGS}; raise deadlines.start_s if it only loads slowly",
    )
    if isinstance(model, OpenAIModel):
        await within(handle.ping.remote(), deadlines.start_s, f"{model.base_url} to answer", "see the server")
    while weights != (weights := weights_now()):
        # The round's weights changed while it started: prove the new ones first.
        await within(
            handle.load_weights.remote(*weights),
            deadlines.weights_s,
            f"{replica_id} to load weights version {weights[0]}",
            "raise deadlines.weights_s",
        )


async def up(handle: Any) -> None:
    """Returns once the actor's process runs and its engine has loaded its model; raises what the start raises."""
    await handle.__ray_ready__.remote()
    await handle.start.remote()


def is_final(error: Exception, model: VllmModel | OpenAIModel, was_up: bool) -> bool:
    """Whether another try to start would end no better, or as late.

    A start that exceeds a deadline that was long enough before hangs, and is worth another one. A remote source has
    tried again within the one start, and who waits for room has looked for it all the time.
    """
    if isinstance(error, DeadlineExceeded) and not isinstance(error, NoRoom):
        return not was_up or isinstance(model, OpenAIModel)
    return isinstance(error, ConfigError | RemoteFailed | NoRoom)


def longest_replacement_s(deadlines: DeadlineConfig) -> float:
    """How long a replica may take to be replaced, or given up, all tries together, from its failure on."""
    return deadlines.idle_s + MOST_STARTS * (deadlines.placement_s + deadlines.start_s + deadlines.weights_s)
