"""Bringing up a run: the Ray session, the small actors, the engines and the trainer; and taking it all down.

Sources load while version 0 of the target is published; then the trainer starts, and the target's engines on version 0.
`RunComponents` is what the main loop works with. `ComponentFactories` names everything that is real in a fusion and
scripted in a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from bohdi_ray.actors.directory import start_directory
from bohdi_ray.actors.routed_models import EngineClientConfig
from bohdi_ray.actors.sample_queue import start_sample_queue
from bohdi_ray.actors.tree_manager import start_tree_manager
from bohdi_ray.config import FusionConfig
from bohdi_ray.deadlines import all_or_none, within
from bohdi_ray.driver.harvest_round import TaskContext
from bohdi_ray.driver.progress import RunProgress
from bohdi_ray.driver.rehearsal import Rehearsals
from bohdi_ray.driver.resume import RecoveredState
from bohdi_ray.driver.training_feed import TrainingFeed
from bohdi_ray.engines.vllm.ipc_folder import clear_left_folders
from bohdi_ray.errors import SEE_LOGS, BohdiError, DeadlineExceeded, RunDirError
from bohdi_ray.examples.rehearsal_store import RehearsalCounts
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.names import RunNames
from bohdi_ray.observe.notice import Notify
from bohdi_ray.placement.cluster_token import knock_and_show_token as knock
from bohdi_ray.placement.machines import check_mode, not_started, unreachable
from bohdi_ray.placement.pools.engine_start import longest_replacement_s
from bohdi_ray.placement.pools.pools import EnginePools
from bohdi_ray.placement.pools.replicas import EngineMaker
from bohdi_ray.preflight import local_node
from bohdi_ray.rounds import harvest_version
from bohdi_ray.run.lease import Claim, Lease
from bohdi_ray.run.quarantine import Quarantine
from bohdi_ray.run.retention import (
    checkpoints_to_delete,
    delete_checkpoints,
    drop_optimizers,
    rounds_with_optimizer,
)
from bohdi_ray.run.run_dir import BASE_DIR, CHECKPOINTS, RunDir, weights_dir
from bohdi_ray.training.weights.checkpoints import clear_superseded_steps
from bohdi_ray.tree.messages import RoundClosed
from bohdi_ray.tree.names import Seeds, read_seeds

WATCH_EVERY_S = 1.0
LAST_WRITES_S = 2.0
# Of a session of our own. Ray's control store keeps a record of every task, by default of the last 100,000: 300 MB over
# 500 rounds, in a session without a dashboard to show them.
SESSION_SETTINGS = {"task_events_max_num_task_in_gcs": 10_000}
SPARE_SLOTS = 2  # CPU slots of a session of our own for Ray Data's reads, the training task and harvest tasks


@dataclass(frozen=True, slots=True)
class ComponentFactories:
    """What a fusion is made of that a test may script. `real_components.py` has the real ones."""

    # Both raise ConfigErrors: what can be known before Ray is there (given its address), and what the cluster decides.
    # `preflight` is also told whether a run is gone on with.
    preflight: Callable[[FusionConfig, str | None, bool], None]
    settle: Callable[[FusionConfig], FusionConfig]
    make_engine: Callable[[FusionConfig], EngineMaker]
    # Writes version 0 into the folder, untied and with its probe; an ObjectRef to wait for.
    publish_base: Callable[[FusionConfig, str], Any]
    # Starts the training run: configuration, queue, checkpoints folder, claim -> a handle as of training.launch.
    start_trainer: Callable[[FusionConfig, Any, str, Claim | None], Any]
    # Held-out losses by version of these weights folders, over all held-out samples through this round of the run; an
    # ObjectRef to wait for.
    evaluate: Callable[[FusionConfig, dict[int, str], RunDir, int], Any]
    # Writes a version in the model's own layout: weights folder, base model, output folder; an ObjectRef.
    export_weights: Callable[[FusionConfig, str, str], Any]


class RunComponents:
    """Everything that takes part in a run, and the few things the main loop asks of it."""

    def __init__(
        self, config: FusionConfig, run_dir: RunDir, parts: ComponentFactories, claim: Claim | None, notify: Notify
    ):
        self.config, self.run_dir = config, run_dir
        seeds = starting_domains(config)
        plan = ray.put(HarvestPlan.from_config(config))
        self.names = names = RunNames.of(run_dir.location)
        directory = start_directory(names)
        self.manager = start_tree_manager(config, seeds, run_dir, claim, names=names)
        self.queue = start_sample_queue(config.training, run_dir.address(CHECKPOINTS), names)
        self.trainer: Any = None  # a handle as of training.launch, once `start` has come that far
        self.pools = EnginePools(config, parts.make_engine(config), directory, notify, names)
        deadlines = config.deadlines
        quarantine = Quarantine.of(config, run_dir, claim)
        client_config = ray.put(
            EngineClientConfig(directory, quarantine, deadlines.request_s, longest_replacement_s(deadlines))
        )
        self.context = TaskContext(plan, client_config, directory, self.manager, run_dir, claim, names)
        self.rehearsals = Rehearsals(config, self.context, lambda: self.pools.table)
        self.training_feed = TrainingFeed(config, run_dir, self.queue, self.rehearsals)
        self._optimizers_before = -1  # the round before which none is left

    async def start(self, parts: ComponentFactories, progress: RunProgress, recovered: RecoveredState) -> None:
        """Engines and trainer; returns when all engines are up, the target's proved on the version it harvests with
        next, or the newest there is."""
        await asyncio.to_thread(self.training_feed.remember, recovered)
        if self.config.colocates:  # the cards are the trainer's first, for rounds that an interrupted run left it
            await self._start_training(parts, progress, recovered)
            await self.pools.time_sharing.trainer_rests(self.queue, self.trainer, self.training_feed.num_rounds)
            self.pools.time_sharing.begin_harvest()
            await all_or_none((self.pools.start_sources(), self._start_target(recovered)))
            return

        async def training_and_target() -> None:
            await self._start_training(parts, progress, recovered)
            await self._start_target(recovered)

        await all_or_none((self.pools.start_sources(), training_and_target()))

    async def _start_training(
        self, parts: ComponentFactories, progress: RunProgress, recovered: RecoveredState
    ) -> None:
        if recovered.newest_version == 0:
            progress.message("publishing version 0 of the target")
        await within(
            parts.publish_base(self.config, self.run_dir.address(BASE_DIR)),
            self.config.deadlines.start_s,
            "version 0 of the target",
            "see with `bohdi plan --address` whether a train worker finds room; raise deadlines.start_s if it only "
            "loads slowly",
        )
        await self.training_feed.fill_queue()
        claim = self.context.claim
        self.trainer = parts.start_trainer(self.config, self.queue, self.run_dir.address(CHECKPOINTS), claim)
        self.pools.placement_groups.trainer_has_started = True
        progress.message("starting engines and trainer")

    async def _start_target(self, recovered: RecoveredState) -> None:
        version = min(
            recovered.newest_version, harvest_version(len(recovered.closed), self.config.harvest.max_staleness)
        )
        await self.pools.start_target(version, self.run_dir.address(weights_dir(version)))

    async def wait_trained(self, round: int) -> dict[str, Any]:
        """Waits until the trainer has committed `round`; returns its metrics."""
        num_steps, deadlines = self.config.most_steps(1), self.config.deadlines
        seconds = deadlines.start_s + (num_steps + 1) * deadlines.train_step_s
        deadline = time.monotonic() + seconds
        while not await within(self.queue.wait_committed.remote(round, 5.0), 60, "the sample queue", SEE_LOGS):
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"round {round} to be trained", seconds, "raise deadlines.train_step_s")
        return await within(self.queue.metrics.remote(round), 60, "the sample queue", SEE_LOGS)

    async def serve_weights(self, version: int) -> list[Any]:
        """Every target engine serves `version`, proved, when this returns."""
        return await self.pools.load_weights(version, self.run_dir.address(weights_dir(version)))

    async def to_harvest(self) -> None:
        """With `placement: colocate`: the trainer has left the cards, and every engine is on them."""
        await self.pools.time_sharing.trainer_rests(self.queue, self.trainer, 1)  # which it may have to train again
        await self.pools.time_sharing.wake_engines()

    async def close_round(self, round: int, next_version: int) -> RoundClosed:
        """The boundary of `round`: rows drawn, introspection done, the next round open. One journalled call."""
        reference = self.manager.close_round.remote(round + 1, next_version)
        return await within(reference, self.config.deadlines.request_s, "TreeManager.close_round", SEE_LOGS)

    async def rehearsal(self, round: int) -> RehearsalCounts:
        """Asks the target as it was before the fusion for the round's rehearsal, and tells what came of it; its engines
        serve version 0 then."""
        await self.serve_weights(0)
        return await self.rehearsals.ask(round)

    async def watch_trainer(self) -> None:
        """Raises as soon as the training run has died or is stuck, and refills a queue that was restarted; runs until
        cancelled."""
        while True:
            await asyncio.to_thread(self.trainer.raise_if_dead)
            await asyncio.to_thread(self.trainer.raise_if_stuck)
            await self.training_feed.fill_queue()
            await self.drop_optimizers()
            await asyncio.sleep(WATCH_EVERY_S)

    async def retain(self, in_use: set[int], best: int | None) -> None:
        """Deletes checkpoints that nothing needs any more."""
        committed = self.run_dir.committed_rounds()
        recoverable = await asyncio.to_thread(rounds_with_optimizer, self.run_dir, committed)
        keep = self.config.training.keep_checkpoints
        rounds = checkpoints_to_delete(committed, keep, in_use, best, recoverable)
        await asyncio.to_thread(delete_checkpoints, self.run_dir, rounds)
        needed = not self.config.training.reset_optimizer
        await asyncio.to_thread(clear_superseded_steps, self.run_dir.address(CHECKPOINTS), needed)

    async def drop_optimizers(self) -> None:
        """Deletes the optimizer states that no start of the workers would load any more: all but one.

        By what the queue says and not by what is on disk: workers that start now were told the same.
        """
        status = await within(self.queue.status.remote(), 60, "the sample queue", SEE_LOGS)
        if status.resume_round > self._optimizers_before:
            committed = self.run_dir.committed_rounds()
            await asyncio.to_thread(drop_optimizers, self.run_dir, committed, status.resume_round)
            self._optimizers_before = status.resume_round

    async def dismiss(self, at_once: bool = False) -> None:
        """Ends trainer, engines and actors; `at_once` gives none of them time to end by itself. Safe after any failure,
        and to call again."""
        drain_s = 0.0 if at_once else self.config.deadlines.drain_s
        try:
            if self.trainer is not None:
                with contextlib.suppress(BohdiError, RayError):
                    await asyncio.to_thread(self.trainer.stop, drain_s)
            await self.pools.stop(at_once)
        finally:
            for actor in (self.manager, self.queue, self.context.directory):
                ray.kill(actor)


async def assemble(
    config: FusionConfig,
    run: RunDir,
    parts: ComponentFactories,
    progress: RunProgress,
    recovered: RecoveredState | None = None,
    claim: Claim | None = None,
) -> RunComponents:
    """Starts everything, behind what `past` holds; when that fails, nothing is left running. With `claim` nothing
    writes samples or journal for a driver that has lost its lease."""
    components = RunComponents(config, run, parts, claim, progress.on_notice)
    try:
        await components.start(parts, progress, recovered or RecoveredState())
    except BaseException:
        await components.dismiss(at_once=True)
        raise
    return components


def starting_domains(config: FusionConfig) -> Seeds:
    """What `tree.seed` names, or None."""
    if config.tree.seed is None:
        return None
    with open(config.tree.seed, encoding="utf-8") as file:
        return read_seeds(file.read())


async def keep_lease(lease: Lease) -> None:
    """The heartbeat of a run, until cancelled. Raises RunDirError when somebody else owns the run by now."""
    while True:
        await asyncio.sleep(lease.stale_after_s / 6)
        await asyncio.to_thread(lease.renew)


@contextlib.contextmanager
def held(run: RunDir) -> Iterator[Lease]:
    """The run belongs to this process while the block runs."""
    lease = Lease(run)
    if lease.acquire():
        # What the last driver left running asks for the lease before it writes; a write that had asked may still end.
        time.sleep(LAST_WRITES_S)
    try:
        yield lease
    except BaseException:
        with contextlib.suppress(RunDirError):  # storage that failed once is told of once
            lease.release()
        raise
    lease.release()


@contextlib.contextmanager
def ray_session(config: FusionConfig, address: str | None) -> Iterator[None]:
    """A Ray session that was there already, a cluster's, or one of our own on this machine, ended with the run.

    Raises ConfigError when the cluster cannot be joined, or could not call this process back."""
    if ray.is_initialized():
        yield
        return
    joins = bool(address or os.environ.get("RAY_ADDRESS"))
    if joins:
        try:
            knock(address or os.environ["RAY_ADDRESS"])
            ray.init(address=address, log_to_driver=False)
        except BohdiError:
            raise
        except Exception as error:  # Ray raises all kinds, a bare Exception when it takes too long
            field = "--address" if address else "RAY_ADDRESS"
            raise unreachable(field, address or os.environ["RAY_ADDRESS"], error) from None
    else:
        # Engines and trainer share this machine's cores; the slots only have to admit them all.
        slots = math.ceil(local_node(config).num_cpus) + SPARE_SLOTS
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        try:
            # "local" also where another Ray runs on this machine.
            ray.init("local", num_cpus=slots, _system_config=SESSION_SETTINGS, **quiet)
        except Exception as error:  # Ray raises a bare Exception when its processes are not up in time
            ray.shutdown()
            raise BohdiError(not_started(error)) from error
    try:
        if joins:
            check_mode()
        yield
    finally:
        ray.shutdown()
        clear_left_folders()  # of engines on this machine that were killed
