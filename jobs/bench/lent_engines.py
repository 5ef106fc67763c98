"""Real engines that outlive a fusion, lent to one after another: part of `miniature.py`.

Starting vLLM takes longer than a miniature's whole fusion. A fusion gets an actor that hands its calls on to an engine
that is there already, and that it may end as it ends its own.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from bohdi_ray.actors.engine_actor import actor_options, make_engine_actor
from bohdi_ray.config import FusionConfig, VllmModel
from bohdi_ray.driver.components import ComponentFactories
from bohdi_ray.driver.real_components import real_parts
from bohdi_ray.engines.spec import EngineStats, LoadReport
from bohdi_ray.evaluation.heldout_loss import FinalFigures
from bohdi_ray.placement.pools.placement_groups import EngineGroup
from bohdi_ray.records import EngineReply, EngineRequest
from bohdi_ray.training.weights.checkpoints import is_committed

START_S = 600.0


class LentEngine:
    """The calls of an engine actor, handed on. `started` holds what says that the engine is up; `weights`: version and
    folder a target begins with."""

    def __init__(self, kept: Any, started: list[Any], weights: tuple[int, str] | None):
        self._kept, self._started, self._weights = kept, started, weights

    async def start(self) -> LoadReport | None:
        await self._started[0]
        return await self._kept.load_weights.remote(*self._weights) if self._weights else None

    async def run(
        self, requests: Sequence[EngineRequest], alone: bool = False
    ) -> AsyncIterator[list[EngineReply] | None]:
        async for ready in self._kept.run.options(num_returns="streaming").remote(requests, alone):
            yield await ready

    async def load_weights(self, version: int, weights_dir: str) -> LoadReport:
        return await self._kept.load_weights.remote(version, weights_dir)

    async def health(self) -> None:
        await self._kept.health.remote()

    async def stats(self) -> EngineStats:
        return await self._kept.stats.remote()

    async def stop(self) -> None:
        """The kept engine stays."""


class Lender:
    """Engines by model folder, for fusions of one world in one Ray session."""

    def __init__(self, published: Path):
        self._engines: dict[str, tuple[Any, Any]] = {}  # with what says that it is up
        self._published = published  # version 0 of the target

    def parts(self) -> ComponentFactories:
        """Real parts whose engines are lent, and which leave out what a study does not look at: the loss on held-out
        samples and the exported models."""
        return replace(
            real_parts(),
            make_engine=lambda config: lambda *args: self._lend(config, *args),
            publish_base=self._publish,
            evaluate=lambda config, folders, run, last_round: ray.put(FinalFigures()),
            export_weights=lambda config, weights_dir, out_dir: ray.put(None),
        )

    def close(self) -> None:
        """Ends all engines. More may be lent afterwards."""
        for engine, _ in self._engines.values():
            with contextlib.suppress(RayError):  # of one that is dead already
                ray.get(engine.stop.remote(), timeout=START_S)
            ray.kill(engine)
        self._engines.clear()

    def _lend(
        self, config: FusionConfig, model: VllmModel, _: str, version: int, weights_dir: str | None, group: EngineGroup
    ) -> Any:
        key = str(Path(model.model).resolve())
        if key not in self._engines:
            kept = make_engine_actor(model, f"{model.name}, kept", version, weights_dir, EngineGroup(), config)
            self._engines[key] = kept, kept.start.remote()
        kept, started = self._engines[key]
        weights = (version, weights_dir) if weights_dir else None
        return ray.remote(**actor_options(model, group))(LentEngine).remote(kept, [started], weights)

    def _publish(self, config: FusionConfig, folder: str) -> Any:
        if not is_committed(str(self._published)):
            ray.get(real_parts().publish_base(config, str(self._published)), timeout=START_S)
        shutil.copytree(self._published, folder, dirs_exist_ok=True)
        return ray.put(None)
