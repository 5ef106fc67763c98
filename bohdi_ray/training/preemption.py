"""A checkpoint within a round when a node is about to be taken away (spot and preemptible machines).

Ray notifies every train worker when the cluster drains a node of one of them. From then on the loop commits
`checkpoints/step-<s>/` between two steps: right at the notice, and again as long as the node exists, so that at most a
few steps are trained twice. Such a checkpoint is not a version of the weights: it is never used for harvesting, and the
next round's commit supersedes it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

import ray
import ray.train
import torch.distributed as dist

from bohdi_ray.run.filesystem import storage_errors
from bohdi_ray.run.node_files import scratch_of, upload
from bohdi_ray.training.feed.encoded_step import EncodedStep
from bohdi_ray.training.learner import Learner
from bohdi_ray.training.round_metrics import RoundSums
from bohdi_ray.training.weights.checkpoints import (
    ResumePoint,
    RoundState,
    commit_folder,
    is_committed,
    optimizer_dir,
    start_folder,
    step_dir,
    write_state,
    write_tally,
)
from bohdi_ray.training.weights.versions import WEIGHTS

log = logging.getLogger(__name__)
LOOK_EVERY_S = 1.0  # a look asks an actor and waits for all ranks: some milliseconds
SHARE_OF_TIME = 0.1  # that repeated checkpoints may take from the steps
QUEUE_TIMEOUT_S = 300.0


class JustInTime:
    """One instance per worker. All ranks call `after` for the same steps; rank 0's clock decides for all of them."""

    def __init__(
        self,
        queue: Any,
        checkpoints_dir: str,
        check_claim: Callable[[], None],
        rank: int,
        world_size: int,
    ):
        self._queue, self._checkpoints_dir = queue, checkpoints_dir
        self._check_claim = check_claim
        self._rank, self._world_size = rank, world_size
        self._look_at = time.monotonic() + LOOK_EVERY_S
        self._noticed = False
        self._save_at = 0.0

    def after(self, step: EncodedStep, tally: RoundSums, learner: Learner) -> None:
        """Commits a checkpoint behind `step`, which is not the last of its round, if that is due."""
        if not self._same_on_all(time.monotonic() >= self._look_at):
            return
        self._look_at = time.monotonic() + LOOK_EVERY_S
        if not self._noticed:
            notice = ray.train.get_preemption_info()
            if notice is None:
                return
            self._noticed = True
            log.warning("nodes are about to be taken away: %s", ", ".join(notice.preempted_node_ids))
        if not self._same_on_all(time.monotonic() >= self._save_at):
            return
        began = time.monotonic()
        self._save(step, tally, learner)
        self._save_at = time.monotonic() + (time.monotonic() - began) / SHARE_OF_TIME

    def _same_on_all(self, decision: bool) -> bool:
        decisions = [decision]
        dist.broadcast_object_list(decisions, src=0)
        return decisions[0]

    def _save(self, step: EncodedStep, tally: RoundSums, learner: Learner) -> None:
        folder = step_dir(self._checkpoints_dir, step.step + 1)
        if self._same_on_all(is_committed(folder)):
            return
        if self._rank == 0:
            self._check_claim()
            start_folder(folder)
            start_folder(optimizer_dir(folder))
        dist.barrier()
        with storage_errors(folder, "write"):
            learner.save_weights(os.path.join(scratch_of(folder), WEIGHTS), self._rank)
            learner.save_optimizer(scratch_of(optimizer_dir(folder)))
        upload(optimizer_dir(folder))
        tally.reference = learner.all_references()
        dist.barrier()
        if self._rank == 0:
            done, taken = len(tally.steps), learner.num_optimizer_steps
            state = RoundState(
                round=step.round - 1,
                next_step=step.step + 1,
                num_optimizer_steps=taken,
                weights_version=step.round,
                world_size=self._world_size,
                has_optimizer=True,
                steps_done=done,
            )
            write_state(folder, state)
            write_tally(folder, tally.to_json())
            self._check_claim()
            commit_folder(optimizer_dir(folder))
            commit_folder(folder)
            point = ResumePoint(step.round - 1, step.step + 1, taken, steps_done=done)
            ray.get(self._queue.step_committed.remote(point), timeout=QUEUE_TIMEOUT_S)
            log.warning("committed step %d of round %d, before the end of the round", done, step.round)
        dist.barrier()
