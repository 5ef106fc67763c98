"""Bringing up a run: the Ray session, the actors, the trainer, the engines, in that order; and taking it all down.

The trainer starts first, because its workers must find room together; engines take what is left (docs/design.md).
`Crew` is what the main loop works with. `Parts` names everything that is real in a fusion and scripted in a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from bohdi_ray.actors.directory import start_directory
from bohdi_ray.actors.pool import EngineMaker, EnginePools, within
from bohdi_ray.actors.sample_queue import start_sample_queue
from bohdi_ray.actors.tree_manager import start_tree_manager
from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import BohdiError, DeadlineExceeded
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.meditation import Supplies
from bohdi_ray.preflight import local_node
from bohdi_ray.progress import RunProgress
from bohdi_ray.records import TrainingRow
from bohdi_ray.storage.lease import Lease
from bohdi_ray.storage.retention import checkpoints_to_delete, delete_checkpoints, rounds_with_optimizer
from bohdi_ray.storage.run_dir import BASE_DIR, CHECKPOINTS, RunDir, weights_dir
from bohdi_ray.storage.samples import SampleStore
from bohdi_ray.tree.messages import RoundClosed
from bohdi_ray.tree.names import Seeds, read_seeds

WATCH_EVERY_S = 1.0
SPARE_SLOTS = 2  # CPU slots of a session of our own for Ray Data's reads, the training task and harvest tasks


@dataclass(frozen=True, slots=True)
class Parts:
    """What a fusion is made of that a test may script. `real_parts.py` has the real ones."""

    # Both raise ConfigErrors: what can be known before Ray is there (given its address), and what the cluster decides.
    preflight: Callable[[FusionConfig, str | None], None]
    settle: Callable[[FusionConfig], FusionConfig]
    make_engine: Callable[[FusionConfig], EngineMaker]
    # Writes version 0 into the folder, untied and with its probe; an ObjectRef to wait for.
    publish_base: Callable[[FusionConfig, str], Any]
    # Starts the training run: configuration, queue, checkpoints folder -> a handle as of training.launch.
    start_trainer: Callable[[FusionConfig, Any, str], Any]
    # Held-out losses by version of these weights folders over these rows; an ObjectRef to wait for.
    evaluate: Callable[[FusionConfig, dict[int, str], Sequence[TrainingRow]], Any]
    # Writes a version in the model's own layout: weights folder, base model, output folder; an ObjectRef.
    export_weights: Callable[[FusionConfig, str, str], Any]


class Crew:
    """Everything that takes part in a run, and the few things the main loop asks of it."""

    def __init__(
        self,
        config: FusionConfig,
        run_dir: RunDir,
        manager: Any,
        queue: Any,
        trainer: Any,
        pools: EnginePools,
        supplies: Supplies,
    ):
        self.config, self.run_dir = config, run_dir
        self.manager, self.queue, self.trainer, self.pools = manager, queue, trainer, pools
        self.supplies = supplies
        self.store = SampleStore(run_dir)

    async def wait_trained(self, round: int) -> dict[str, Any]:
        """Waits until the trainer has committed `round`; returns its metrics."""
        num_steps = math.ceil(self.config.rows_per_round / self.config.training.global_batch_size)
        seconds = self.config.deadlines.start_s + (num_steps + 1) * self.config.deadlines.train_step_s
        deadline = time.monotonic() + seconds
        while not await within(self.queue.wait_committed.remote(round, 5.0), 60, "the sample queue", "see its log"):
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"round {round} to be trained", seconds, "raise deadlines.train_step_s")
        status = await within(self.queue.status.remote(), 60, "the sample queue", "see its log")
        return status.metrics.get(round, {})

    async def serve_weights(self, version: int) -> list[Any]:
        """Every target engine serves `version`, proved, when this returns."""
        return await self.pools.load_weights(version, self.run_dir.path(weights_dir(version)))

    async def close_round(self, round: int, next_version: int) -> RoundClosed:
        """The boundary of `round`: rows drawn, introspection done, the next round open. One journalled call."""
        reference = self.manager.close_round.remote(round + 1, next_version)
        return await within(reference, self.config.deadlines.request_s, "TreeManager.close_round", "see its log")

    async def queue_rows(self, closed: RoundClosed) -> int:
        """Hands the round's rows to the trainer, and the held-out samples so far. Returns the number of rows."""
        rows = await asyncio.to_thread(self.rows, closed.round, closed.row_sample_ids)
        heldout = await asyncio.to_thread(self.heldout_rows, closed.round)
        await within(self.queue.put_round.remote(closed.round, rows, heldout), 600, "the sample queue", "see its log")
        return len(rows)

    def rows(self, round: int, sample_ids: Sequence[str]) -> list[TrainingRow]:
        """Training rows with their texts, in the order drawn."""
        texts = self.store.rows(set(sample_ids))
        return [TrainingRow(round, i, sample_id, *texts[sample_id]) for i, sample_id in enumerate(sample_ids)]

    def heldout_rows(self, round: int) -> list[TrainingRow]:
        """All held-out samples through `round`, whatever a later harvest has already stored."""
        texts = sorted(self.store.heldout_rows(round).items())
        return [TrainingRow(round, i, sample_id, *text) for i, (sample_id, text) in enumerate(texts)]

    async def watch_trainer(self) -> None:
        """Raises as soon as the training run has died; runs until cancelled."""
        while True:
            self.trainer.raise_if_dead()
            await asyncio.sleep(WATCH_EVERY_S)

    async def retain(self, in_use: set[int], best: int | None) -> None:
        """Deletes checkpoints that nothing needs any more."""
        committed = self.run_dir.committed_rounds()
        recoverable = await asyncio.to_thread(rounds_with_optimizer, self.run_dir, committed)
        keep = self.config.training.keep_checkpoints
        rounds = checkpoints_to_delete(committed, keep, in_use, best, recoverable)
        await asyncio.to_thread(delete_checkpoints, self.run_dir, rounds)

    async def dismiss(self) -> None:
        """Ends trainer, engines and actors. Safe to call after any failure."""
        with contextlib.suppress(BohdiError):
            await asyncio.to_thread(self.trainer.stop, self.config.deadlines.drain_s)
        await self.pools.stop()
        for actor in (self.manager, self.queue, self.supplies.directory):
            ray.kill(actor)


async def assemble(config: FusionConfig, run: RunDir, parts: Parts, progress: RunProgress) -> Crew:
    """Starts everything; returns when all engines are up, the target's on proved version 0."""
    plan = ray.put(HarvestPlan.from_config(config))
    directory = start_directory()
    manager = start_tree_manager(config, starting_domains(config), run)
    queue = start_sample_queue(config.training, run.path(CHECKPOINTS))
    supplies = Supplies(plan, directory, manager, run)
    pools = EnginePools(config.sources, config.target, parts.make_engine(config), directory, config.deadlines)
    trainer = None
    sources = asyncio.ensure_future(pools.start_sources())
    try:
        progress.message("publishing version 0 of the target")
        base = run.path(BASE_DIR)
        await within(
            parts.publish_base(config, base),
            config.deadlines.start_s,
            "version 0 of the target",
            "raise deadlines.start_s",
        )
        trainer = parts.start_trainer(config, queue, run.path(CHECKPOINTS))
        progress.message("starting engines and trainer")
        await asyncio.gather(sources, pools.start_target(0, run.path(weights_dir(0))))
    except BaseException:
        sources.cancel()
        if trainer is not None:
            await asyncio.to_thread(trainer.stop, config.deadlines.drain_s)
        await pools.stop()
        raise
    return Crew(config, run, manager, queue, trainer, pools, supplies)


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
    lease.acquire()
    try:
        yield lease
    finally:
        lease.release()


@contextlib.contextmanager
def ray_session(config: FusionConfig, address: str | None) -> Iterator[None]:
    """A Ray session that was there already, a cluster's, or one of our own on this machine, ended with the run."""
    if ray.is_initialized():
        yield
        return
    if address or os.environ.get("RAY_ADDRESS"):
        ray.init(address=address, log_to_driver=False)
    else:
        # Engines and trainer share this machine's cores; the slots only have to admit them all.
        slots = math.ceil(local_node(config).num_cpus) + SPARE_SLOTS
        ray.init(num_cpus=slots, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()
