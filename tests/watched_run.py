"""A fusion with scripted engines on a Ray of its own that reports its metrics every second: something to watch.

Some questions are cut off, one engine has to be replaced, and requests wait for each other, so that there is something
to see. Usage: watched_run.py RUN_DIR FAULTS_DIR ROUNDS [DASHBOARD_PORT]. The first line on standard output says where
the metrics are, as JSON.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from fakes import scripted_completion
from scripted_parts import Faults, ScriptedEngineActor, scripted_config, scripted_parts

from bohdi_ray.config import FusionConfig
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.engines.vllm.slots import Slots
from bohdi_ray.fusion import fuse
from bohdi_ray.placement.pools.placement_groups import EngineGroup
from bohdi_ray.records import EngineReply, EngineRequest

ANSWER_S, STEP_S = 0.1, 0.3
SLOTS = 4  # requests that an engine answers at a time


class WatchedEngine(ScriptedEngineActor):
    """Answers `SLOTS` requests at a time, and knows how long it was idle."""

    def __init__(self, model: str, weights_version: int, faults: Faults):
        super().__init__(model, weights_version, 0.0, faults)
        self._slots = Slots(SLOTS)
        self._born = self._idle_since = time.monotonic()
        self._idle_s, self._num_in_flight = 0.0, 0

    async def _answers(self, requests: Sequence[EngineRequest]):
        async for ready in super()._answers([]):  # strikes the faults
            assert ready == []
        yield list(await asyncio.gather(*map(self._answer, requests)))

    async def _answer(self, request: EngineRequest) -> EngineReply:
        async with self._slots.one():
            if self._num_in_flight == 0:
                self._idle_s += time.monotonic() - self._idle_since
            self._num_in_flight += 1
            try:
                await asyncio.sleep(ANSWER_S)
            finally:
                self._num_in_flight -= 1
                self._idle_since = time.monotonic()
        answer = scripted_completion(self._model, self._weights_version, request)
        self._num_served += 1
        self._num_prompt_tokens += answer.num_prompt_tokens
        self._num_decoded_tokens += answer.num_tokens
        cut_off = request.role == "question" and answer.num_tokens % 5 == 0
        return replace(answer, finish_reason="length") if cut_off else answer

    async def stats(self) -> EngineStats:
        now = time.monotonic()
        idle_s = self._idle_s + (now - self._idle_since if self._num_in_flight == 0 else 0.0)
        counts = (self._num_in_flight, self._num_served, self._num_prompt_tokens, self._num_decoded_tokens)
        times = {"idle_s": idle_s, "uptime_s": now - self._born}
        return EngineStats(self._model, self._weights_version, *counts, **times, **self._slots.stats())


def engine_maker(faults: Faults) -> Any:
    actor = ray.remote(num_cpus=0, max_concurrency=1000)(WatchedEngine)

    def make(model: Any, replica_id: str, version: int, weights_dir: str | None, group: EngineGroup) -> Any:
        return actor.options(**group.options()).remote(model.name, version, faults)

    return make


def config(run_dir: str, rounds: int) -> FusionConfig:
    return scripted_config(
        run_dir,
        stop={"rounds": rounds},
        meditation={"steps": 2, "walks_per_step": 20},
        enlightenment={"steps": 2, "rows_per_step": 24},
        harvest={"max_tasks_in_flight": 4, "tickets_per_task": 8},
        observe={"console": "quiet"},
    )


def main(run_dir: str, faults_dir: str, rounds: int, dashboard_port: int = 0) -> None:
    Path(faults_dir).mkdir(exist_ok=True)
    faults = Faults(faults_dir)
    faults.arm("dead-bob")
    ray.init(
        address="local",
        num_cpus=16,
        num_gpus=0,
        include_dashboard=bool(dashboard_port),
        dashboard_port=dashboard_port or None,
        log_to_driver=False,
        _system_config={"metrics_report_interval_ms": 1000},
    )
    print(json.dumps({"metrics": f"127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}"}), flush=True)
    parts = scripted_parts(step_s=STEP_S, faults=faults)
    fuse(config(run_dir, rounds), parts=replace(parts, make_engine=lambda config: engine_maker(faults)))
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 0)
