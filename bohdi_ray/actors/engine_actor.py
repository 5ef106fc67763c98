"""EngineActor: the Ray actor around one engine, hosted here (vLLM) or elsewhere (OpenAI-compatible).

Thin: the engines do the work, the pool on the driver decides which replicas exist. `start` is a method of its own so
that a failed start reaches the pool as the error it is. The process of a failed engine is not reused: its callers get
EngineFailed, the process ends, and the pool replaces the actor (so Ray restarts none).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from bohdi_ray.config import FusionConfig, OpenAIModel, VllmModel
from bohdi_ray.engines.spec import EngineSpec, EngineStats, LoadReport, RemoteSpec
from bohdi_ray.engines.vllm.gate import Gate
from bohdi_ray.engines.vllm.ipc_folder import remove_ipc_folder
from bohdi_ray.errors import EngineFailed
from bohdi_ray.placement.pools.placement_groups import EngineGroup
from bohdi_ray.randomness import derived_seed
from bohdi_ray.records import EngineReply, EngineRequest
from bohdi_ray.run.node_files import plain_weights

log = logging.getLogger(__name__)

MAX_CONCURRENCY = 1_000  # calls at a time; the engine does the queueing
FAREWELL_S = 5.0  # for callers to get their error before the process ends


class EngineActor:
    """Made with `EngineSpec` (vLLM) or `RemoteSpec` (remote); the same calls for both."""

    def __init__(self, spec: EngineSpec | RemoteSpec):
        self._spec = spec
        self._engine: Any
        if isinstance(spec, EngineSpec):
            from bohdi_ray.engines.vllm.engine import LLMEngine

            self._engine = LLMEngine(spec)
        else:
            from bohdi_ray.engines.openai import RemoteEngine

            self._engine = RemoteEngine(spec.model, judges=spec.judges)
        self._gate = Gate()
        self._ending = False

    async def start(self) -> LoadReport | None:
        """Loads the model and, for published weights, verifies them with the probe."""
        if not isinstance(self._spec, EngineSpec):
            return await self._engine.start()
        async with weights_here(self._spec.path) as path:
            self._engine.spec = replace(self._spec, path=path)
            return await self._engine.start()

    async def ping(self) -> None:
        """For a remote source: raises RemoteFailed if its server cannot serve the kinds of request that a harvest
        sends."""
        await self._engine.ping()

    async def run(
        self, requests: Sequence[EngineRequest], alone: bool = False
    ) -> AsyncIterator[list[EngineReply] | None]:
        """Call with `num_returns="streaming"`: lists of completions as they finish, empty ones as signs of life.

        With `alone` no other request is in the engine meanwhile. The stream yields None while the call waits: for an
        exclusive call to end, or for its own exclusive turn.
        """
        try:
            async for ready in self._gate.through(self._engine.run(requests), alone):
                yield ready
        except EngineFailed:
            self._end_soon()
            raise

    async def load_weights(self, version: int, weights_dir: str) -> LoadReport:
        """Replaces the weights in place and verifies them with the probe."""
        try:
            async with weights_here(weights_dir) as path:
                return await self._engine.load_weights(version, path)
        except EngineFailed:
            self._end_soon()
            raise

    async def sleep(self) -> None:
        """Moves the engine off the GPU once its requests are answered."""
        await self._or_end(self._engine.sleep())

    async def wake(self) -> None:
        """Moves the engine back onto the GPU."""
        await self._or_end(self._engine.wake())

    async def health(self) -> None:
        """Raises EngineFailed when the engine has died, hangs or serves the wrong weights."""
        await self._or_end(self._engine.health())

    async def stats(self) -> EngineStats:
        """Counters since the start."""
        return await self._engine.stats()

    async def retire(self) -> None:
        """Rejects further calls with EngineRetired; returns once the calls under way have ended."""
        await self._gate.close()

    async def stop(self) -> None:
        """Ends the engine and its processes; the actor stays for the pool to end."""
        try:
            await self._engine.stop()
        finally:
            remove_ipc_folder()

    async def _or_end(self, call: Awaitable[None]) -> None:
        try:
            await call
        except EngineFailed:
            self._end_soon()
            raise

    def _end_soon(self) -> None:
        if self._ending:
            return
        self._ending = True
        log.warning("this engine failed; its process ends in %.0f s", FAREWELL_S)
        asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        await asyncio.sleep(FAREWELL_S)
        try:
            await self._engine.stop()
        finally:
            remove_ipc_folder()
            # exit_actor() would count as intended; this is a failure, and is to look like one.
            os._exit(1)


@contextlib.asynccontextmanager
async def weights_here(weights_dir: str) -> AsyncIterator[str]:
    """The path of weights as plain files on this node while the block runs: a path is used as it is, an address is
    downloaded."""
    with contextlib.ExitStack() as reading:
        yield await asyncio.to_thread(reading.enter_context, plain_weights(weights_dir))


def engine_spec(model: VllmModel, version: int, weights_dir: str | None, config: FusionConfig) -> EngineSpec:
    """The specification of one replica of `model`; the target gets its published weights folder."""
    deadlines = config.deadlines
    path = weights_dir or model.model
    if path.startswith(("~", "./", "../")):
        path = str(Path(path).expanduser().resolve())
    return EngineSpec(
        model=model,
        path=path,
        weights_version=version,
        proves=weights_dir is not None,
        seed=derived_seed(config.seed, "engine", model.name),
        device="cuda" if model.resources.num_gpus else "cpu",
        thinks=weights_dir is None or config.training.reasoning == "keep",
        sleeps=config.colocates,
        idle_s=deadlines.idle_s,
        request_s=deadlines.request_s,
        weights_s=deadlines.weights_s,
        tolerance=config.weights.tolerance,
    )


def actor_options(model: VllmModel | OpenAIModel, group: EngineGroup) -> dict[str, Any]:
    """Ray options of one replica. For a vLLM model `resources.num_gpus` must already be resolved (not None)."""
    options: dict[str, Any] = {"max_concurrency": MAX_CONCURRENCY, "max_restarts": 0, "max_task_retries": 0}
    options |= group.options()
    if isinstance(model, OpenAIModel):
        return options | {"num_cpus": 0}
    resources = model.resources
    options["num_cpus"] = resources.num_cpus
    if model.engine.pipeline_parallel_size == 1:
        # With stages across nodes vLLM's own Ray workers take the cards.
        options["num_gpus"] = resources.num_gpus or 0
    if resources.memory_gb is not None:
        options["memory"] = int(resources.memory_gb * 1e9)
    return options


def make_engine_actor(
    model: VllmModel | OpenAIModel,
    replica_id: str,
    version: int,
    weights_dir: str | None,
    group: EngineGroup,
    config: FusionConfig,
) -> Any:
    """The handle of a new replica in its placement group; call `start` before anything else."""
    spec = (
        engine_spec(model, version, weights_dir, config)
        if isinstance(model, VllmModel)
        else RemoteSpec(model, judges=config.judge.names_letter)
    )
    log.info("making engine %s", replica_id)
    return ray.remote(**actor_options(model, group))(EngineActor).remote(spec)
