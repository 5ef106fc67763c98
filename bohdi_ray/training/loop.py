"""The train loop of one rank under Ray Train: takes numbered steps, learns, commits rounds.

`train_loop` runs in every train worker, for the whole fusion. It
- consumes: the steps of this rank, encoded, in order, through its Ray Dataset (feed/dataset.py);
- produces: checkpoints/round-<r>/ with COMMIT at the end of each round, told to the queue by rank 0; metrics, once a
round;
- waits for: the next step (a round being harvested), the other ranks (collectives);
- is unblocked by: `put_round`, `finish` or `stop` on the queue.
A round of whose rows too many are rejected is not committed: the queue is told, and the workers end (rejection.py).
With `placement: colocate` nothing of it is on a card but while a round's rows are there: the rows are its turn.
A dead rank ends the whole worker group; Ray Train starts another, which goes on from the last COMMIT. Where a node is
about to be taken away, that is one within the round (preemption.py). It never deletes a committed folder and never
draws a sample.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as dist
from ray.train.torch import get_device

from bohdi_ray.config import FusionConfig
from bohdi_ray.engines.probe import PROBE_FILE, read_probe, write_probe
from bohdi_ray.errors import ConfigError, RunDirError
from bohdi_ray.run.filesystem import storage_errors
from bohdi_ray.run.lease import Claim
from bohdi_ray.run.node_files import plain_files, scratch_of, upload
from bohdi_ray.training.batches.encoding import EncodedExample
from bohdi_ray.training.card_turns import CardTurns
from bohdi_ray.training.feed.encoded_step import EncodedStep
from bohdi_ray.training.feed.queue import Ended
from bohdi_ray.training.feed.rejection import refusal
from bohdi_ray.training.learner import Learner
from bohdi_ray.training.preemption import JustInTime
from bohdi_ray.training.rank_steps import Heldout, StageLearner, read_steps, with_reference
from bohdi_ray.training.results import RowLoss
from bohdi_ray.training.round_metrics import RoundSums, round_metrics
from bohdi_ray.training.weights.checkpoints import (
    ResumePoint,
    RoundState,
    commit_folder,
    is_committed,
    optimizer_dir,
    optimizer_to_load,
    read_state,
    read_tally,
    round_dir,
    start_folder,
    version_dir,
    write_metrics,
    write_state,
)
from bohdi_ray.training.weights.versions import WEIGHTS

QUEUE_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class LoopConfig:
    """What launch.py hands to every worker."""

    config: FusionConfig
    queue: Any  # handle of the SampleQueue actor
    checkpoints_dir: str
    claim: Claim | None = None  # its driver's on the run: nothing is written for one that has lost it

    def check_claim(self) -> None:
        """Raises RunDirError if another driver owns the run now."""
        if self.claim is not None:
            self.claim.check()


def train_loop(loop_config: dict[str, Any]) -> None:
    """Entry point for Ray Train."""
    setup: LoopConfig = loop_config["setup"]
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    _set_threads(context.get_local_world_size())
    attempt = ray.get(setup.queue.status.remote(), timeout=QUEUE_TIMEOUT_S).attempt
    begun = ray.get(setup.queue.begin.remote(attempt), timeout=QUEUE_TIMEOUT_S)
    card_turns = CardTurns(setup.config.colocates, setup.queue, attempt, rank, world_size)
    if not card_turns.wait(begun.resume.next_step):
        return
    learner = start_learner(setup, begun.resume, world_size)
    tally = start_tally(setup, begun.resume)
    learner.reference = dict(tally.reference)
    learners = StageLearner(
        setup.config.training,
        learner,
        begun.resume.round + 1,
        lambda round: start_learner(setup, ResumePoint(round - 1), world_size),
    )
    heldout = Heldout()
    just_in_time = JustInTime(setup.queue, setup.checkpoints_dir, setup.check_claim, rank, world_size)
    steps = with_reference(read_steps(rank), learners, heldout)
    while True:
        began, switched = time.perf_counter(), learners.seconds
        step = next(steps)
        tally.seconds["waiting"] += time.perf_counter() - began - (learners.seconds - switched)
        tally.seconds["switching"] += learners.seconds - switched
        if isinstance(step, Ended):
            return
        learner = learners.of(step.round)
        if tally.put_to_step_s is None:
            tally.put_to_step_s = time.time() - step.put_at
        began = time.perf_counter()
        if not tally.steps and setup.config.training.reset_optimizer:
            learner.reset_optimizer()
        tally.steps.append(learner.step(step.usable, step.rejected))
        tally.seconds["stepping"] += time.perf_counter() - began
        tally.stepped_at = time.time()
        setup.queue.ack.remote(attempt, rank, step.step)
        if step.last_of_round:
            if refuse_round(setup, step.round, tally, rank):
                return
            end_round(setup, learner, step, heldout.of(step), tally, rank, world_size)
            tally = RoundSums()
            if not card_turns.give(learner, tally, step.step + 1):
                return
        else:
            just_in_time.after(step, tally, learner)


def start_learner(setup: LoopConfig, resume: ResumePoint, world_size: int) -> Learner:
    """The learner at `resume`, with its optimizer unless that is to begin anew, as it does in each stage."""
    config, checkpoints_dir = setup.config, setup.checkpoints_dir
    folder, round = resume.folder(checkpoints_dir), resume.round + 1
    optimizer_folder, in_stage = None, resume.steps_done or not config.training.starts_stage(round)
    if not resume.starts_optimizer(config.training):
        try:
            optimizer_folder = optimizer_to_load(folder, world_size)
        except ValueError as error:
            remedy = (
                "Use as many workers as then, or continue with the weights alone: bohdi resume RUN --reset-optimizer."
            )
            raise ConfigError("training.num_workers", world_size, str(error), remedy) from None
        if optimizer_folder is None and not read_state(folder).has_optimizer:
            # Never begin anew without a word: a later start went on from a newer state, and this one was let go.
            raise RunDirError(f"the optimizer state in {folder} was deleted; training continues from a newer one")
    with ExitStack() as reading:
        here = [reading.enter_context(plain_files(part)) for part in (folder, version_dir(checkpoints_dir, 0))]
        learner = Learner(
            config,
            os.path.join(here[0], WEIGHTS),
            here[1],
            get_device() if torch.cuda.is_available() else "cpu",
            optimizer_folder and reading.enter_context(plain_files(optimizer_folder)),
            resume.num_optimizer_steps if in_stage else 0,
            round=round,
        )
        if not resume.steps_done:  # a checkpoint within a round is no version, and has no probe
            learner.check_start(read_probe(os.path.join(here[0], PROBE_FILE)), config.weights.tolerance)
        return learner


def start_tally(setup: LoopConfig, resume: ResumePoint) -> RoundSums:
    """The sums of the round that `resume` is within, as recorded at that checkpoint."""
    if not resume.steps_done:
        return RoundSums()
    return RoundSums.from_json(read_tally(resume.folder(setup.checkpoints_dir)))


def refuse_round(setup: LoopConfig, round: int, tally: RoundSums, rank: int) -> bool:
    """Whether too many of the round's rows were rejected for it to be a round of training: it is not committed, the
    queue tells the driver why, and the workers end. The same on every rank."""
    refused = refusal(setup.config.training.at(round), round, tally.num_rows, tally.rejected)
    if refused is not None and rank == 0:
        ray.get(setup.queue.round_refused.remote(refused), timeout=QUEUE_TIMEOUT_S)
    return refused is not None


def end_round(
    setup: LoopConfig,
    learner: Learner,
    step: EncodedStep,
    measured: Sequence[EncodedExample],
    tally: RoundSums,
    rank: int,
    world_size: int,
) -> None:
    """Evaluates held-out examples, commits the round, notifies the queue and Ray Train."""
    began = time.perf_counter()
    heldout: list[tuple[int, list[RowLoss]]] = [(0, [])] * world_size
    dist.all_gather_object(heldout, (len(step.heldout), learner.row_losses(measured)))
    tally.seconds["measuring"] += time.perf_counter() - began
    began = time.perf_counter()
    num_heldout, losses = sum(number for number, _ in heldout), [row for _, rows in heldout for row in rows]
    state = commit_round(setup, learner, step, rank, world_size, round_metrics(tally, losses, num_heldout))
    tally.seconds["saving"] += time.perf_counter() - began
    metrics = round_metrics(tally, losses, num_heldout)
    if rank == 0:
        write_metrics(round_dir(setup.checkpoints_dir, step.round), metrics)
        ray.get(setup.queue.round_committed.remote(state, metrics), timeout=QUEUE_TIMEOUT_S)
    if not state.has_optimizer and save_optimizer_when_due(setup, learner, step, rank):
        # From here on a restart goes on behind this round; until now it would have trained it again from its rows.
        state = replace(state, has_optimizer=True)
        if rank == 0:
            ray.get(setup.queue.round_committed.remote(state, metrics), timeout=QUEUE_TIMEOUT_S)
    ray.train.report({"round": step.round, **metrics})


def commit_round(
    setup: LoopConfig, learner: Learner, step: EncodedStep, rank: int, world_size: int, metrics: dict[str, Any]
) -> RoundState:
    """All ranks write, then rank 0 writes COMMIT. A round replayed after a restart keeps its committed folder.

    `metrics` are those known so far; they are stored next to the weights, so they survive a crash after COMMIT.
    """
    folder = round_dir(setup.checkpoints_dir, step.round)
    # Rank 0 looks for all: a rank that looked later could find the COMMIT of this very round.
    decision = [is_committed(folder)]
    dist.broadcast_object_list(decision, src=0)
    if decision[0]:
        return read_state(folder)
    if rank == 0:
        setup.check_claim()
        start_folder(folder)
    dist.barrier()
    with storage_errors(folder, "write"):
        learner.save_weights(os.path.join(scratch_of(folder), WEIGHTS), rank)
    probe = learner.probe(step.round + 1)
    state = RoundState(
        step.round, step.step + 1, learner.num_optimizer_steps, step.round + 1, world_size, has_optimizer=False
    )
    dist.barrier()
    if rank == 0:
        write_probe(os.path.join(scratch_of(folder), PROBE_FILE), probe)
        write_state(folder, state)
        write_metrics(folder, metrics)
        setup.check_claim()
        commit_folder(folder)
    dist.barrier()
    return state


def save_optimizer_when_due(setup: LoopConfig, learner: Learner, step: EncodedStep, rank: int) -> bool:
    """Writes the optimizer state of a committed round if the configuration asks for it; returns whether it did.

    Engines load the new weights at the same time, because they do not need it.
    """
    training = setup.config.training
    if training.reset_optimizer or (step.round + 1) % training.save_optimizer_every:
        return False
    folder = optimizer_dir(round_dir(setup.checkpoints_dir, step.round))
    if rank == 0:
        setup.check_claim()
        start_folder(folder)
    dist.barrier()
    with storage_errors(folder, "write"):
        learner.save_optimizer(scratch_of(folder))
    upload(folder)
    dist.barrier()
    if rank == 0:
        setup.check_claim()
        commit_folder(folder)
    dist.barrier()
    return True


def _set_threads(local_world_size: int) -> None:
    """On a CPU cluster the ranks of a node share its cores; Ray's default of one thread per slot leaves cores idle."""
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_world_size))
