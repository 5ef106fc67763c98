"""All components of a run: the control actors, the engines, the trainer. Starts, uses and stops them.

Sources load while version 0 of the target is published; then the trainer starts, and the target's engines on version 0.
`RunComponents` is what the main loop works with. `ComponentFactories` lists the parts that are real in a fusion and
scripted in a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
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
from bohdi_ray.driver.checkpoint_cleanup import CheckpointCleanup
from bohdi_ray.driver.harvest_round import Harvester, TaskContext
from bohdi_ray.driver.round_figures import HarvestResult
from bohdi_ray.driver.session import ActiveRun
from bohdi_ray.driver.target.evaluations import Evaluations
from bohdi_ray.driver.target.rehearsal import Rehearsals
from bohdi_ray.driver.telemetry_poller import TelemetryPoller
from bohdi_ray.driver.training_feed import TrainingFeed
from bohdi_ray.errors import SEE_LOGS, BohdiError, DeadlineExceeded
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.names import RunNames
from bohdi_ray.observe import events
from bohdi_ray.observe.observers import Observer, all_observers
from bohdi_ray.placement.pools.engine_start import longest_replacement_s
from bohdi_ray.placement.pools.pools import EnginePools
from bohdi_ray.placement.pools.replicas import EngineMaker
from bohdi_ray.questions.domains import starting_domains
from bohdi_ray.rounds import harvest_version
from bohdi_ray.run.lease import Claim
from bohdi_ray.run.quarantine import Quarantine
from bohdi_ray.run.run_dir import BASE_DIR, CHECKPOINTS, RunDir, weights_dir
from bohdi_ray.tree.messages import RoundClosed

WATCH_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class ComponentFactories:
    """The parts of a fusion that a test may script. `real_components.py` has the real ones."""

    # Both raise ConfigErrors: what can be known before Ray is there (given its address), and what the cluster decides.
    # `preflight` also gets whether a run is resumed.
    preflight: Callable[[FusionConfig, str | None, bool], None]
    settle: Callable[[FusionConfig], FusionConfig]
    make_engine: Callable[[FusionConfig], EngineMaker]
    # Writes version 0 into the folder, untied and with its probe; an ObjectRef to wait for.
    publish_base: Callable[[FusionConfig, str], Any]
    # Starts the training run: configuration, queue, checkpoints folder, claim -> a handle as of training.launch.
    start_trainer: Callable[[FusionConfig, Any, str, Claim | None], Any]
    # FinalFigures of these weights folders by version, over all held-out samples through this round of the run; an
    # ObjectRef to wait for.
    evaluate: Callable[[FusionConfig, dict[int, str], RunDir, int], Any]
    # Writes a version in the model's own layout: weights folder, base model, output folder; an ObjectRef.
    export_weights: Callable[[FusionConfig, str, str], Any]
    # Who looks at the run; with none at all it harvests, trains and ends the same.
    observers: Callable[[FusionConfig, RunDir], Sequence[Observer]] = all_observers


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What was put into the trainer's queue for a round."""

    num_rows: int
    rehearsal_tokens: int  # decoded for its rehearsal


class RunComponents:
    """All components of a run, and the operations that the main loop calls on them.

    Made: the tree manager, the sample queue and the directory of engines, three small actors beside the driver.
    Started by `start`: a Ray actor in a placement group of its own for every engine, and the training run.
    """

    def __init__(self, active: ActiveRun, parts: ComponentFactories):
        config, run_dir, claim = active.config, active.run_dir, active.claim
        self.config, self.run_dir = config, run_dir
        self._active, self._parts = active, parts
        seeds = starting_domains(config, run_dir)
        plan = ray.put(HarvestPlan.from_config(config))
        self.names = names = RunNames.of(run_dir.location)
        directory = start_directory(names)
        self.manager = start_tree_manager(config, seeds, run_dir, claim, names=names)
        self.queue = start_sample_queue(config.training, run_dir.address(CHECKPOINTS), names)
        self.trainer: Any = None  # a handle as of training.launch, once `start` has come that far
        self.pools = EnginePools(config, parts.make_engine(config), directory, active.observers.notify, names)
        deadlines = config.deadlines
        quarantine = Quarantine.of(config, run_dir, claim)
        client_config = ray.put(
            EngineClientConfig(directory, quarantine, deadlines.request_s, longest_replacement_s(deadlines))
        )
        self.context = TaskContext(plan, client_config, directory, self.manager, run_dir, claim, names)
        self.rehearsals = Rehearsals(config, self.context, lambda: self.pools.table)
        self.evaluations = Evaluations(active, self.context, lambda: self.pools.table, self.serve_weights)
        self.training_feed = TrainingFeed(config, run_dir, self.queue, self.rehearsals)
        self.harvester = Harvester(
            config, self.context, lambda: self.pools.table, active.stop_asked, active.observers.tell
        )
        is_resumed = active.ledger.num_drivers > 0
        self.telemetry = TelemetryPoller(config, self.pools, self.queue, self.manager, active.observers, is_resumed)
        self.cleanup = CheckpointCleanup(config, run_dir, active.ledger, self.queue)

    async def start(self) -> None:
        """Starts engines and trainer. Returns when all engines are up and the target's engines have been verified on
        the version of the next harvest, or the newest one there is."""
        await asyncio.to_thread(self.training_feed.remember, self._active.recovered)
        if self.config.colocates:  # the cards are the trainer's first, for rounds that an interrupted run left it
            await self._start_training()
            await self.pools.time_sharing.trainer_rests(self.queue, self.trainer, self.training_feed.num_rounds)
            self.pools.time_sharing.begin_harvest()
            await all_or_none((self.pools.start_sources(), self._start_target()))
        else:
            await all_or_none((self.pools.start_sources(), self._start_training_and_target()))
        self._active.tell(events.Started(self._active.ledger.add_start_up()))

    async def _start_training_and_target(self) -> None:
        await self._start_training()
        await self._start_target()

    async def _start_training(self) -> None:
        if self._active.recovered.newest_version == 0:
            self._active.message("publishing version 0 of the target")
        await within(
            self._parts.publish_base(self.config, self.run_dir.address(BASE_DIR)),
            self.config.deadlines.start_s,
            "version 0 of the target",
            "see with `bohdi plan --address` whether a train worker finds room; raise deadlines.start_s if it only "
            "loads slowly",
        )
        await self.training_feed.fill_queue()
        claim, checkpoints = self.context.claim, self.run_dir.address(CHECKPOINTS)
        self.trainer = self._parts.start_trainer(self.config, self.queue, checkpoints, claim)
        self.pools.placement_groups.trainer_has_started = True
        self._active.message("starting engines and trainer")

    async def _start_target(self) -> None:
        recovered, staleness = self._active.recovered, self.config.harvest.max_staleness
        version = min(recovered.newest_version, harvest_version(len(recovered.closed), staleness))
        await self.pools.start_target(version, self.run_dir.address(weights_dir(version)))

    def watches(self) -> Iterable[Coroutine[Any, Any, None]]:
        """The coroutines that run beside the main loop: each runs until cancelled, or raises the error that ends the
        run."""
        return self.pools.watch(), self.watch_trainer(), self.telemetry.run()

    async def serve_weights(self, version: int) -> None:
        """Returns once every target engine serves `version` and has been verified. With `placement: colocate` the
        trainer has left the GPUs before, and every engine is on them."""
        if self.pools.time_sharing.engines_sleep:
            await self._switch("harvest", self._to_harvest())
        started = time.monotonic()
        if reports := await self._load_weights(version):
            ended = time.monotonic()
            self._active.ledger.intervals.record("weights", started, ended)
            self._active.tell(events.WeightsServed(version, ended - started, tuple(reports)))

    async def harvest(self, round: int, version: int) -> HarvestResult:
        """Harvests and commits a round. If a stop was requested, drains and raises Interrupted."""
        rounds = self._active.ledger.rounds
        self._active.tell(events.RoundBegan(round, version, rounds[-1].heldout_loss if rounds else None))
        self.pools.load_signal.harvests(round)
        return await self.harvester.run(round, version)

    async def close_round(self, round: int, next_version: int) -> RoundClosed:
        """The boundary of `round`: rows drawn, introspection done, the next round open. One journalled call."""
        reference = self.manager.close_round.remote(round + 1, next_version)
        return await within(reference, self.config.deadlines.request_s, "TreeManager.close_round", SEE_LOGS)

    async def num_left(self) -> int | None:
        """Number of tickets that may still be issued; None without a corpus."""
        request = self.manager.stats.remote()
        return (await within(request, self.config.deadlines.request_s, "TreeManager.stats", SEE_LOGS))["num_left"]

    async def hand_over(self, harvest: HarvestResult, closed: RoundClosed) -> HandedOver:
        """Puts a harvested round with its rehearsal into the trainer's queue."""
        before = self._active.before(harvest.round)
        heldout_ids = [*harvest.heldout_ids, *(before.heldout_ids if before else ())]
        return await self._hand_over(harvest.round, closed.row_sample_ids, heldout_ids)

    async def hand_over_restored(self) -> None:
        """Does the same for the last round that an earlier driver closed, if that driver ended before it did."""
        for record in self._active.recovered.closed[-1:]:
            if self.rehearsals.lacks(record.round):
                handed = await self._hand_over(record.round, record.row_sample_ids or (), record.heldout_ids)
                self._active.ledger.add_rows(record.round, handed.num_rows, handed.rehearsal_tokens)

    async def _hand_over(self, round: int, sample_ids: Sequence[str], heldout_ids: Sequence[str]) -> HandedOver:
        if self.rehearsals.lacks(round):
            await self._active.unless_stopped(self._rehearse(round))
        if self.config.colocates:
            await self._switch("training", self.pools.time_sharing.end_harvest())
        started = time.monotonic()
        num_rows = await self.training_feed.put(round, sample_ids, heldout_ids)
        self._active.tell(events.RowsHandedOver(round, num_rows, time.monotonic() - started))
        return HandedOver(num_rows, self.rehearsals.num_tokens(round))

    async def _rehearse(self, round: int) -> None:
        """Asks the target as it was before the fusion for the round's rehearsal, and for that of rounds after it; its
        engines serve version 0 then."""
        started = time.monotonic()
        await self._load_weights(0)
        done, ended = await self.rehearsals.ask(round), time.monotonic()
        self._active.ledger.intervals.record("rehearsal", started, ended)
        counts: Counter[str] = sum((Counter(one.counts) for one in done), Counter())
        num_tokens = sum(one.num_tokens for one in done)
        self._active.tell(events.RehearsalAsked(round, len(done), ended - started, counts, num_tokens))

    async def _load_weights(self, version: int) -> list[Any]:
        return await self.pools.load_weights(version, self.run_dir.address(weights_dir(version)))

    async def _to_harvest(self) -> None:
        await self.pools.time_sharing.trainer_rests(self.queue, self.trainer, 1)  # which it may have to train again
        await self.pools.time_sharing.wake_engines()

    async def _switch(self, to: str, work: Coroutine[Any, Any, None]) -> None:
        """Switches the shared GPUs between harvest and training."""
        started = time.monotonic()
        await self._active.unless_stopped(work)
        self._active.tell(events.TurnSwitched(to, time.monotonic() - started))

    async def wait_trained(self, round: int) -> dict[str, Any]:
        """Waits until the trainer has committed `round`; returns its metrics. An evaluation that is due runs meanwhile
        and is waited for too. Raises Interrupted as soon as a stop is requested."""
        version = harvest_version(self._active.ledger.schedule.num_closed - 1, self.config.harvest.max_staleness)
        return await self._active.unless_stopped(self.evaluations.beside(self._waited_for(round), version))

    async def _waited_for(self, round: int) -> dict[str, Any]:
        self.pools.load_signal.waits_for_trainer()
        metrics = await self._trained(round)
        self.pools.load_signal.wait_ended()
        return metrics

    async def _trained(self, round: int) -> dict[str, Any]:
        num_steps, deadlines = self.config.most_steps_per_round, self.config.deadlines
        seconds = deadlines.start_s + (num_steps + 1) * deadlines.train_step_s
        deadline = time.monotonic() + seconds
        while not await within(self.queue.wait_committed.remote(round, 5.0), 60, "the sample queue", SEE_LOGS):
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"round {round} to be trained", seconds, "raise deadlines.train_step_s")
        return await within(self.queue.metrics.remote(round), 60, "the sample queue", SEE_LOGS)

    async def watch_trainer(self) -> None:
        """Watches the training run and its queue.

        Consumes: the trainer's liveness and progress, the queue's status. Produces: rows for a queue that was
        restarted; deletes optimizer states that are not loaded again. Waits for: their answers, with deadlines. Runs
        until cancelled; raises as soon as the training run has died or is stuck.
        """
        while True:
            await asyncio.to_thread(self.trainer.raise_if_dead)
            await asyncio.to_thread(self.trainer.raise_if_stuck)
            await self.training_feed.fill_queue()
            await self.cleanup.drop_optimizers()
            await asyncio.sleep(WATCH_EVERY_S)

    async def dismiss(self, at_once: bool = False) -> None:
        """Ends trainer, engines and actors; with `at_once` none of them gets time to end by itself. Safe after any
        failure, and safe to call again."""
        drain_s = 0.0 if at_once else self.config.deadlines.drain_s
        try:
            if self.trainer is not None:
                with contextlib.suppress(BohdiError, RayError):
                    await asyncio.to_thread(self.trainer.stop, drain_s)
            await self.pools.stop(at_once)
        finally:
            for actor in (self.manager, self.queue, self.context.directory):
                ray.kill(actor)


@contextlib.asynccontextmanager
async def assembled(active: ActiveRun, parts: ComponentFactories) -> AsyncIterator[RunComponents]:
    """Creates, places and starts everything, continuing from the state of earlier drivers. When the block ends, or a
    start fails, nothing is left running."""
    components, at_once = RunComponents(active, parts), True
    try:
        await active.unless_stopped(components.start())
        at_once = False
        yield components
    finally:
        task = asyncio.current_task()
        await components.dismiss(at_once or (task is not None and task.cancelling() > 0))
