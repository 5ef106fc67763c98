"""A fusion's parts with scripted engines and a scripted trainer, for integration tests and control-plane benchmarks.

Everything else is real: Ray actors and tasks, tree, journal, samples on disk, queue, rounds.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Any

import ray
from fakes import scripted_completion

from bohdi_ray.config import FusionConfig
from bohdi_ray.records import Completion, EngineRequest, TrainingRow
from bohdi_ray.startup import Parts
from bohdi_ray.training.checkpoints import (
    RoundState,
    commit_folder,
    is_committed,
    round_dir,
    start_folder,
    write_state,
    write_text,
)
from bohdi_ray.training.queue import Ended, NotYet

TRAINER_WAIT_S = 5.0


@ray.remote(num_cpus=0, max_concurrency=1000)
class ScriptedEngine:
    """Answers like `fakes.scripted_completion`, each request after `answer_s`."""

    def __init__(self, model: str, weights_version: int, answer_s: float):
        self._model, self._weights_version, self._answer_s = model, weights_version, answer_s
        self._served = 0

    async def start(self) -> None:
        return

    async def run(self, requests: Sequence[EngineRequest]):
        if self._answer_s:
            await asyncio.sleep(self._answer_s)
        self._served += len(requests)
        answers: list[Completion] = [scripted_completion(self._model, self._weights_version, r) for r in requests]
        yield answers

    async def load_weights(self, version: int, weights_dir: str) -> dict[str, Any]:
        assert is_committed(os.path.dirname(weights_dir)), weights_dir
        self._weights_version = version
        return {"version": version}

    async def health(self) -> None:
        return

    async def stats(self) -> dict[str, int]:
        return {"served": self._served}

    async def stop(self) -> None:
        return


@ray.remote(num_cpus=0)
class ScriptedTrainerActor:
    """One rank that takes steps from the queue and commits empty folders after `step_s` a step."""

    def __init__(self, queue: Any, checkpoints_dir: str, step_s: float):
        self._queue, self._checkpoints_dir, self._step_s = queue, checkpoints_dir, step_s

    async def train(self) -> int:
        step, seconds = 0, 0.0
        while True:
            taken = await self._queue.take.remote(1, 1, 0, step, TRAINER_WAIT_S)
            if isinstance(taken, NotYet):
                continue
            if isinstance(taken, Ended):
                return step
            began = time.perf_counter()
            if taken.rows:
                await asyncio.sleep(self._step_s)
            seconds += time.perf_counter() - began
            await self._queue.ack.remote(1, 0, step)
            step += 1
            if taken.last_of_round:
                folder = round_dir(self._checkpoints_dir, taken.round)
                start_folder(folder)
                os.makedirs(os.path.join(folder, "weights"))
                state = RoundState(taken.round, step, step, taken.round + 1, 1, True)
                write_state(folder, state)
                commit_folder(folder)
                metrics = {"loss": 1.0 / step, "seconds": {"stepping": seconds}, "committed_at": time.time()}
                await self._queue.round_committed.remote(state, metrics)
                seconds = 0.0


class ScriptedTrainer:
    """The handle, as training.launch has one."""

    def __init__(self, queue: Any, checkpoints_dir: str, step_s: float):
        self._actor = ScriptedTrainerActor.remote(queue, checkpoints_dir, step_s)
        self._done = self._actor.train.remote()

    def raise_if_dead(self) -> None:
        done, _ = ray.wait([self._done], timeout=0)
        if done:
            ray.get(self._done, timeout=10)

    def join(self, timeout_s: float) -> None:
        ray.get(self._done, timeout=timeout_s)

    def stop(self, timeout_s: float) -> None:
        ray.kill(self._actor)


@ray.remote(num_cpus=0)
def _publish(folder: str) -> None:
    start_folder(folder)
    os.makedirs(os.path.join(folder, "weights"))
    commit_folder(folder)


@ray.remote(num_cpus=0)
def _evaluate(versions: list[int], num_rows: int) -> dict[int, float]:
    return {version: 2.0 / (1 + version) for version in versions} if num_rows else {}


@ray.remote(num_cpus=0)
def _export(out: str) -> None:
    os.makedirs(out, exist_ok=True)
    write_text(os.path.join(out, "exported"), "")


def scripted_parts(answer_s: float = 0.0, step_s: float = 0.0) -> Parts:
    """Parts whose engines answer every request after `answer_s` and whose trainer takes `step_s` a step."""

    def evaluate(config: FusionConfig, folders: dict[int, str], rows: Sequence[TrainingRow]) -> Any:
        return _evaluate.remote(list(folders), len(rows))

    return Parts(
        preflight=lambda config, address: None,
        settle=lambda config: config,
        make_engine=lambda config: (
            lambda model, replica_id, version, weights_dir: ScriptedEngine.remote(model.name, version, answer_s)
        ),
        publish_base=lambda config, folder: _publish.remote(folder),
        start_trainer=lambda config, queue, folder: ScriptedTrainer(queue, folder, step_s),
        evaluate=evaluate,
        export_weights=lambda config, weights, out: _export.remote(out),
    )


def scripted_config(run_dir: str, **changes: Any) -> FusionConfig:
    """A small fusion of three scripted sources; `changes` replace whole sections."""
    settings: dict[str, Any] = {
        "run_dir": run_dir,
        "sources": [{"kind": "vllm", "name": name, "model": "./none"} for name in ("ada", "bob", "cyd")],
        "target": {"name": "target", "model": "./none"},
        "meditation": {"steps": 2, "walks_per_step": 8},
        "enlightenment": {"steps": 1, "rows_per_step": 12},
        "training": {"global_batch_size": 8},
        "harvest": {"max_tasks_in_flight": 4, "tickets_per_task": 4},
        "stop": {"rounds": 3},
        "observe": {"console": "lines"},
        **changes,
    }
    return FusionConfig.model_validate(settings)
