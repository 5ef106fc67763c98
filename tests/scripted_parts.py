"""A fusion's parts with scripted engines and a scripted trainer, for integration tests and control-plane benchmarks.

Everything else is real: Ray actors and tasks, tree, journal, samples on disk, queue, rounds.
"""

from __future__ import annotations

import asyncio
import glob
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from fakes import scripted_completion
from scripted_metrics import round_metrics, scripted_heldout_loss
from shared_card import SharedCard
from step_log import StepLog

from bohdi_ray.actors.seats import Seat
from bohdi_ray.addresses import below, is_address
from bohdi_ray.config import FusionConfig
from bohdi_ray.engines.gate import Gate
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.errors import EngineFailed, RemoteFailed, WeightsMismatch
from bohdi_ray.placement import resolve_gpus
from bohdi_ray.records import Completion, EngineRequest, TrainingRow
from bohdi_ray.startup import Parts
from bohdi_ray.storage.node_files import plain_weights, scratch_of
from bohdi_ray.storage.places import place_of
from bohdi_ray.training.checkpoints import (
    RoundState,
    commit_folder,
    is_committed,
    optimizer_dir,
    round_dir,
    start_folder,
    version_dir,
    write_metrics,
    write_state,
    write_text,
)
from bohdi_ray.training.launch import TrainerHandle
from bohdi_ray.training.queue import Ended, NotYet

TRAINER_WAIT_S = 5.0
QUEUE_S = 60.0
LEAVES_S = 0.5  # for a trainer to leave its card
VERSION = "version"


@dataclass(frozen=True)
class Faults:
    """What goes wrong, and how often. A fault is a file that strikes once, in whichever process finds it first.

    Known: start-MODEL, load-MODEL, dead-MODEL (raise, the last one from the middle of a call), die-MODEL (ends the
    process in the middle of a call), slip-MODEL (answers with other weights), hang-MODEL (a call gives no sign of life
    any more), late-MODEL, oom-MODEL (a start that never ends, one that ends the process), ping-MODEL, refuse-MODEL (no
    server can be reached, in a ping or in a call), sleepless-MODEL, oversleep-MODEL, die-asleep-MODEL (never falls
    asleep, never wakes up, ends its process in its sleep), train (raises), stall (the trainer stops moving). Poison
    lasts: all engines of the model die of it.
    """

    folder: str

    def arm(self, fault: str, times: int = 1) -> None:
        for i in range(times):
            write_text(os.path.join(self.folder, f"{fault}.{i}"), "")

    def poison(self, model: str, text: str) -> None:
        write_text(os.path.join(self.folder, f"poison-{model}"), text)

    def is_poison(self, model: str, requests: Sequence[EngineRequest]) -> bool:
        try:
            with open(os.path.join(self.folder, f"poison-{model}"), encoding="utf-8") as file:
                poison = file.read()
        except FileNotFoundError:
            return False
        return any(poison in request.prompt for request in requests)

    def strikes(self, fault: str) -> bool:
        if not os.path.isdir(self.folder):
            return False
        for path in glob.glob(os.path.join(self.folder, f"{fault}.*")):
            try:
                os.remove(path)
            except FileNotFoundError:
                continue
            return True
        return False


NO_FAULTS = Faults("/nonexistent")


class ScriptedEngineActor:
    """Answers like `fakes.scripted_completion`, each request after `answer_s`; on `card` where there is one."""

    def __init__(
        self, model: str, weights_version: int, answer_s: float, faults: Faults, card: SharedCard | None = None
    ):
        self._card, self._on_card = card, f"{model}-{os.getpid()}"
        self._model, self._weights_version, self._answer_s, self._faults = model, weights_version, answer_s, faults
        self._gate = Gate()
        self._num_served = self._num_prompt_tokens = self._num_decoded_tokens = 0

    async def start(self) -> None:
        if self._faults.strikes(f"start-{self._model}"):
            raise EngineFailed("scripted: no start")
        if self._faults.strikes(f"oom-{self._model}"):
            os._exit(137)
        if self._faults.strikes(f"late-{self._model}"):
            await asyncio.Event().wait()
        self._enter()

    def _enter(self) -> None:
        if self._card:
            self._card.enter("engine", self._on_card)

    async def sleep(self) -> None:
        if self._faults.strikes(f"sleepless-{self._model}"):
            await asyncio.Event().wait()
        if self._card:
            self._card.leave("engine", self._on_card)
        if self._faults.strikes(f"die-asleep-{self._model}"):
            asyncio.get_running_loop().call_later(0.5, os._exit, 1)

    async def wake(self) -> None:
        if self._faults.strikes(f"oversleep-{self._model}"):
            await asyncio.Event().wait()
        self._enter()

    async def ping(self) -> None:
        if self._faults.strikes(f"ping-{self._model}"):
            raise RemoteFailed("scripted: connection refused")

    async def run(self, requests: Sequence[EngineRequest], alone: bool = False):
        async for ready in self._gate.through(self._answers(requests), alone):
            yield ready

    async def _answers(self, requests: Sequence[EngineRequest]):
        if self._answer_s:
            await asyncio.sleep(self._answer_s)
        if self._card:
            self._card.use("engine", self._on_card)
        if self._faults.strikes(f"hang-{self._model}"):
            await asyncio.Event().wait()
        if self._faults.strikes(f"refuse-{self._model}"):
            raise RemoteFailed("scripted: connection refused")
        if self._faults.is_poison(self._model, requests):
            os._exit(1)
        version = self._weights_version + self._faults.strikes(f"slip-{self._model}")
        answers: list[Completion] = [scripted_completion(self._model, version, r) for r in requests]
        if self._faults.strikes(f"die-{self._model}"):
            yield answers[: len(answers) // 2]
            os._exit(1)
        if self._faults.strikes(f"dead-{self._model}"):
            yield answers[: len(answers) // 2]
            raise EngineFailed("scripted: the engine is dead, its actor is not")
        self._num_served += len(requests)
        self._num_prompt_tokens += sum(answer.num_prompt_tokens for answer in answers)
        self._num_decoded_tokens += sum(answer.num_tokens for answer in answers)
        yield answers

    async def load_weights(self, version: int, weights_dir: str) -> dict[str, Any]:
        with plain_weights(weights_dir) as folder, open(os.path.join(folder, VERSION), encoding="utf-8") as file:
            assert int(file.read()) == version, weights_dir
        if self._faults.strikes(f"load-{self._model}"):
            raise WeightsMismatch("scripted: these are not the weights asked for")
        self._weights_version = version
        return {"version": version}

    async def health(self) -> None:
        return

    async def stats(self) -> EngineStats:
        counts = (0, self._num_served, self._num_prompt_tokens, self._num_decoded_tokens)
        return EngineStats(self._model, self._weights_version, *counts, idle_s=0.0, uptime_s=1.0)

    async def retire(self) -> None:
        await self._gate.close()

    async def stop(self) -> None:
        return


ScriptedEngine = ray.remote(num_cpus=0, max_concurrency=1000)(ScriptedEngineActor)


@ray.remote(num_cpus=0, max_retries=0)
def scripted_training(
    queue: Any, checkpoints_dir: str, step_s: float, faults: Faults, log_steps: bool, card: SharedCard | None = None
) -> int:
    """One rank that takes steps from the queue and commits empty folders after `step_s` a step. With `card` it is on it
    for one round at a time, and takes a moment to leave."""
    resume = ray.get(queue.plan.remote(1), timeout=QUEUE_S).resume
    step, seconds, num_rows = resume.next_step, 0.0, 0
    log = None
    if log_steps:
        behind = version_dir(checkpoints_dir, resume.round + 1)
        optimizer = optimizer_dir(behind) if resume.round >= 0 else None
        log = StepLog(os.path.dirname(checkpoints_dir), 0, os.path.join(behind, "weights"), optimizer)
    rests = card is not None
    while True:
        if rests and ray.get(queue.rest.remote(1, 1, 0, step, TRAINER_WAIT_S), timeout=QUEUE_S) is NotYet:
            continue
        taken = ray.get(queue.take.remote(1, 1, 0, step, TRAINER_WAIT_S), timeout=QUEUE_S)
        if isinstance(taken, NotYet):
            continue
        if isinstance(taken, Ended):
            return step
        if card and rests:
            card.enter("trainer", "trainer")
            rests = False
        if faults.strikes("train"):
            raise RuntimeError("scripted: loss is not a number")
        if faults.strikes("stall"):
            time.sleep(600)
        began = time.perf_counter()
        if taken.rows:
            time.sleep(step_s)
        if card:
            card.use("trainer", "trainer")
        seconds += time.perf_counter() - began
        num_rows += len(taken.rows)
        if log:
            log.stepped(taken.rows)
        ray.get(queue.ack.remote(1, 0, step), timeout=QUEUE_S)
        step += 1
        if taken.last_of_round:
            folder = round_dir(checkpoints_dir, taken.round)
            metrics = round_metrics(taken.round, step, num_rows, seconds)
            state = RoundState(taken.round, step, step, taken.round + 1, 1, False)
            if not is_committed(folder):
                start_folder(folder)
                write_weights(folder, taken.round + 1)
                write_state(folder, state)
                if log:
                    log.wrote("weights", os.path.join(folder, "weights"))
                commit_folder(folder)
            write_metrics(folder, metrics)
            if not is_committed(optimizer_dir(folder)):
                start_folder(optimizer_dir(folder))
                if log:
                    log.wrote("optimizer", optimizer_dir(folder))
                commit_folder(optimizer_dir(folder))
            state = replace(state, has_optimizer=True)
            ray.get(queue.round_committed.remote(state, metrics), timeout=QUEUE_S)
            seconds, num_rows = 0.0, 0
            if card:
                time.sleep(LEAVES_S)
                card.leave("trainer", "trainer")
                rests = True


@ray.remote(num_cpus=0)
def _publish(folder: str) -> None:
    if is_committed(folder):
        return
    start_folder(folder)
    write_weights(folder, 0)
    commit_folder(folder)


def write_weights(folder: str, version: int) -> None:
    """What scripted engines load: the version's number, in the place of weights."""
    write_text(os.path.join(scratch_of(folder), "weights", VERSION), str(version))


@ray.remote(num_cpus=0)
def _evaluate(versions: list[int], num_rows: int) -> dict[int, float]:
    return {version: scripted_heldout_loss(version) for version in versions} if num_rows else {}


@ray.remote(num_cpus=0)
def _export(out: str) -> None:
    write_text(below(out, "exported"), "")
    if is_address(out):
        place_of(out).commit()


def scripted_parts(
    answer_s: float = 0.0,
    step_s: float = 0.0,
    faults: Faults = NO_FAULTS,
    log_steps: bool = False,
    card: SharedCard | None = None,
) -> Parts:
    """Parts whose engines answer every request after `answer_s` and whose trainer takes `step_s` a step, and with
    `log_steps` keeps a record of them (`step_log.py`). With `card` all of them share it, as they do with
    `placement: colocate`."""

    def make_engine(model: Any, replica_id: str, version: int, weights_dir: str | None, seat: Seat) -> Any:
        return ScriptedEngine.options(**seat.options()).remote(model.name, version, answer_s, faults, card)

    def start_trainer(config: FusionConfig, queue: Any, folder: str, claim: Any) -> TrainerHandle:
        training = scripted_training.remote(queue, folder, step_s, faults, log_steps, card)
        return TrainerHandle(training, queue, config.deadlines.train_step_s)

    def evaluate(config: FusionConfig, folders: dict[int, str], rows: Sequence[TrainingRow]) -> Any:
        return _evaluate.remote(list(folders), len(rows))

    return Parts(
        preflight=lambda config, address, resume: None,
        settle=lambda config: resolve_gpus(config, cluster_has_gpus=False),
        make_engine=lambda config: make_engine,
        publish_base=lambda config, folder: _publish.remote(folder),
        start_trainer=start_trainer,
        evaluate=evaluate,
        export_weights=lambda config, weights, out: _export.remote(out),
    )


def at_second_start(parts: Parts, model: str, then: Callable[[], None]) -> Parts:
    """The parts, with `then` called before the model's second engine is made: the replacement of its first."""

    def make_engine(config: FusionConfig) -> Any:
        made = []

        def make(one: Any, *args: Any) -> Any:
            made.append(one.name)
            if one.name == model and made.count(model) == 2:
                then()
            return parts.make_engine(config)(one, *args)

        return make

    return replace(parts, make_engine=make_engine)


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
