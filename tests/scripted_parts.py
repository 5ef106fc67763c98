"""A fusion's parts with scripted engines and a scripted trainer, for integration tests and control-plane benchmarks.

Everything else is real: Ray actors and tasks, tree, journal, samples on disk, queue, rounds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray
from scripted_engine import NO_FAULTS, VERSION, Faults, ScriptedEngineActor
from scripted_metrics import round_metrics, scripted_heldout_loss
from shared_card import SharedCard
from step_log import StepLog

from bohdi_ray.config import FusionConfig, TrainingConfig
from bohdi_ray.config.addresses import below, is_address
from bohdi_ray.driver.components import ComponentFactories
from bohdi_ray.evaluation.heldout_loss import FinalFigures
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.placement.placement import resolve_gpus
from bohdi_ray.placement.pools.placement_groups import EngineGroup
from bohdi_ray.run.filesystem import place_of
from bohdi_ray.run.node_files import scratch_of
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.training.feed.queue import Ended, NotYet
from bohdi_ray.training.feed.rejection import refusal
from bohdi_ray.training.launch import TrainerHandle
from bohdi_ray.training.weights.checkpoints import (
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

TRAINER_WAIT_S = 5.0
QUEUE_S = 60.0
LEARNED = "model.safetensors"
LEAVES_S = 0.5  # for a trainer to leave its card


ScriptedEngine = ray.remote(num_cpus=0, max_concurrency=1000)(ScriptedEngineActor)


@ray.remote(num_cpus=0, max_retries=0)
def scripted_training(
    queue: Any,
    checkpoints_dir: str,
    step_s: float,
    faults: Faults,
    log_steps: bool,
    card: SharedCard | None,
    training: TrainingConfig,
) -> int:
    """One rank that takes steps from the queue and commits empty folders after `step_s` a step. With `card` it is on it
    for one round at a time, and takes a moment to leave."""
    resume = ray.get(queue.begin.remote(1), timeout=QUEUE_S).resume
    step, seconds, num_rows, num_rejected = resume.next_step, 0.0, 0, 0
    learned = learned_in(version_dir(checkpoints_dir, resume.round + 1))
    log = None
    if log_steps:
        behind = version_dir(checkpoints_dir, resume.round + 1)
        optimizer = optimizer_dir(behind) if resume.round >= 0 else None
        log = StepLog(os.path.dirname(checkpoints_dir), 0, below(behind, "weights"), optimizer)
    rests = card is not None
    while True:
        if rests and ray.get(queue.wait_at_rest.remote(1, 1, 0, step, TRAINER_WAIT_S), timeout=QUEUE_S) is NotYet:
            continue
        taken = ray.get(queue.wait_step.remote(1, 1, 0, step, TRAINER_WAIT_S), timeout=QUEUE_S)
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
        if faults.lasts("reject"):
            num_rejected += len(taken.rows)
        else:
            num_rows += len(taken.rows)
        if log:
            log.stepped(step, taken.rows)
        ray.get(queue.ack.remote(1, 0, step), timeout=QUEUE_S)
        step += 1
        if taken.last_of_round:
            rejected = {"prompt_too_long": num_rejected} if num_rejected else {}
            if refused := refusal(training, taken.round, num_rows + num_rejected, rejected):
                ray.get(queue.round_refused.remote(refused), timeout=QUEUE_S)
                return step
            learned += num_rows
            folder = round_dir(checkpoints_dir, taken.round)
            metrics = round_metrics(taken.round, step, num_rows, seconds, rejected)
            metrics["num_heldout_rows"] = len(taken.heldout)
            state = RoundState(taken.round, step, step, taken.round + 1, 1, False)
            if not is_committed(folder):
                start_folder(folder)
                write_weights(folder, taken.round + 1, learned)
                write_state(folder, state)
                if log:
                    log.wrote("weights", below(folder, "weights"))
                commit_folder(folder)
            write_metrics(folder, metrics)
            if not is_committed(optimizer_dir(folder)):
                start_folder(optimizer_dir(folder))
                if log:
                    log.wrote("optimizer", optimizer_dir(folder))
                commit_folder(optimizer_dir(folder))
            state = replace(state, has_optimizer=True)
            ray.get(queue.round_committed.remote(state, metrics), timeout=QUEUE_S)
            seconds, num_rows, num_rejected = 0.0, 0, 0
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


def write_weights(folder: str, version: int, learned: int = 0) -> None:
    """What scripted engines load, the version's number, and in the place of weights how many rows they were trained
    on."""
    write_text(os.path.join(scratch_of(folder), "weights", VERSION), str(version))
    write_text(os.path.join(scratch_of(folder), "weights", LEARNED), str(learned))


def learned_in(folder: str) -> int:
    """How many rows these weights were trained on."""
    return int(place_of(below(folder, "weights", LEARNED)).read_bytes())


@ray.remote(num_cpus=0)
def _evaluate(versions: list[int], run: RunDir, last_round: int) -> FinalFigures:
    held_out = SampleStore(run).heldout_ids(last_round)
    losses = {version: scripted_heldout_loss(version) for version in versions} if held_out else {}
    return FinalFigures(losses, 10, {version: min(version, 10) for version in versions})


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
) -> ComponentFactories:
    """Parts whose engines answer every request after `answer_s` and whose trainer takes `step_s` a step, and with
    `log_steps` keeps a record of them (`step_log.py`). With `card` all of them share it, as they do with
    `placement: colocate`."""

    def make_engine(model: Any, replica_id: str, version: int, weights_dir: str | None, group: EngineGroup) -> Any:
        return ScriptedEngine.options(**group.options()).remote(model.name, version, answer_s, faults, card)

    def start_trainer(config: FusionConfig, queue: Any, folder: str, claim: Any) -> TrainerHandle:
        training = scripted_training.remote(queue, folder, step_s, faults, log_steps, card, config.training)
        return TrainerHandle(training, queue, config.deadlines.train_step_s)

    def evaluate(config: FusionConfig, folders: dict[int, str], run: RunDir, last_round: int) -> Any:
        return _evaluate.remote(list(folders), run, last_round)

    return ComponentFactories(
        preflight=lambda config, address, resume: None,
        settle=lambda config: resolve_gpus(config, cluster_has_gpus=False),
        make_engine=lambda config: make_engine,
        publish_base=lambda config, folder: _publish.remote(folder),
        start_trainer=start_trainer,
        evaluate=evaluate,
        export_weights=lambda config, weights, out: _export.remote(out),
    )


def at_second_start(parts: ComponentFactories, model: str, then: Callable[[], None]) -> ComponentFactories:
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
    """A small fusion of three scripted sources; `changes` replace whole sections. Without rehearsal, unless they say
    so:
    a test counts the rows that the bandit drew."""
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
    settings["training"] = {"rehearsal": {"share": 0}, **settings["training"]}
    return FusionConfig.model_validate(settings)
