"""The main loop of a fusion. Read this first.

Harvest and training of one run, side by side: while the trainer works on the rows of round r, the engines already
harvest round r + 1 (with `harvest.max_staleness: 1`; rounds.py says exactly which round may run when). Everything that
takes part is started in driver/components.py; one round's harvest is driver/harvest_round.py; what a run ends with is
driver/finish.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.job_paths import kept_inputs
from bohdi_ray.config.run_naming import named_run
from bohdi_ray.deadlines import cancelled
from bohdi_ray.driver.components import ComponentFactories, RunComponents, assemble, held, keep_lease, ray_session
from bohdi_ray.driver.finish import finish
from bohdi_ray.driver.harvest_round import HarvestRound
from bohdi_ray.driver.nothing_learned import check_rounds
from bohdi_ray.driver.progress import RunProgress
from bohdi_ray.driver.resume import RecoveredState, ResumeRequest, note_resumption, recover, reopen, with_schedule
from bohdi_ray.driver.shared_storage_check import check_all_hosts
from bohdi_ray.driver.signals import stopping_on_signals, unless_stopped
from bohdi_ray.driver.telemetry_poller import keep_polling, look_at
from bohdi_ray.observe.prometheus import refreshed
from bohdi_ray.observe.summary import Summary
from bohdi_ray.rounds import Rounds, harvest_version, stop_reason
from bohdi_ray.run.environment import environment
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.withdrawal import withdrawn_if_refused

T = TypeVar("T")


def fuse(
    config: FusionConfig,
    *,
    resume: bool = False,
    reset_optimizer: bool = False,
    address: str | None = None,
    parts: ComponentFactories | None = None,
) -> Summary:
    """Runs a whole fusion and returns what came of it; the same is in RUN/summary.json.

    `resume` goes on with the run that `config.run_dir` holds, behind what is committed of it; with `reset_optimizer`
    training goes on from its weights with a new optimizer.

    `address` is a Ray cluster's; without one, RAY_ADDRESS counts, else Ray is started on this machine. Raises
    ConfigError before anything starts if the input cannot work, Interrupted after Ctrl-C, and other BohdiErrors with
    a remedy. `parts` lets tests script engines and trainer.
    """
    started = time.time()
    if parts is None:
        from bohdi_ray.driver.real_components import real_parts  # here, so that a scripted fusion needs none of it

        parts = real_parts()
    again = None
    if resume:
        config, changed = reopen(kept_inputs(config, resume=True), reset_optimizer)
        again = ResumeRequest(config, tuple(changed), reset_optimizer)
    with named_run(config, datetime.now()) as named:
        config = with_schedule(named)
        parts.preflight(config, address, resume)
        config = kept_inputs(config)
        with withdrawn_if_refused() as begun, ray_session(config, address):
            check_all_hosts(config.run_dir)
            settled = parts.settle(config)  # stored is what was asked for: a run may go on where it settles otherwise
            if resume:
                run = RunDir.open(config.run_dir)
            else:
                begun.append(run := RunDir.create(config.run_dir, config, environment()))
            return asyncio.run(_fuse(settled, run, parts, started, again))


async def _fuse(
    config: FusionConfig, run: RunDir, parts: ComponentFactories, started: float, again: ResumeRequest | None
) -> Summary:
    stop_asked = asyncio.Event()
    with (
        held(run) as lease,
        RunProgress(config, run, started, lease.claim) as progress,
        stopping_on_signals(stop_asked, progress.message),
    ):
        recovered = recover(run)
        progress.restore(recovered)
        if again is not None:
            note_resumption(run, again, environment(), recovered.state.num_drivers)
            progress.on_resumed(recovered, again.changes)
        async with refreshed(progress.live.exported):
            components = await unless_stopped(
                assemble(config, run, parts, progress, recovered, lease.claim), stop_asked, run
            )
            progress.on_started()
            try:
                watches = (
                    components.pools.watch(),
                    components.watch_trainer(),
                    keep_lease(lease),
                    keep_polling(components, progress),
                )
                rounds = await _supervised(_rounds(config, components, progress, recovered, stop_asked), watches)
                return await _supervised(finish(config, components, rounds, progress, parts), [keep_lease(lease)])
            finally:
                task = asyncio.current_task()
                await components.dismiss(at_once=task is not None and task.cancelling() > 0)


async def _rounds(
    config: FusionConfig,
    components: RunComponents,
    progress: RunProgress,
    recovered: RecoveredState,
    stop_asked: asyncio.Event,
) -> Rounds:
    """Harvests and trains round after round until a stop rule holds and all that was harvested is trained.

    Consumes: committed weights from the trainer. Produces: rows for its queue.
    Waits for: weights of version r - k before round r. Unblocked by: the trainer's COMMIT of round r - k - 1.
    """
    rounds = Rounds(config.harvest.max_staleness, len(recovered.closed), recovered.state.num_trained)
    if reason := stop_reason(config.stop, progress.reached()):
        rounds.stop(reason)
    meditation = HarvestRound(
        config, components.context, lambda: components.pools.table, progress.on_harvest, stop_asked, progress.on_notice
    )
    for record in recovered.closed[-1:]:  # an earlier driver may have ended before it was handed over
        if components.rehearsals.lacks(record.round):
            num_rows = await _hand_over(
                record.round, record.row_sample_ids or (), record.heldout_ids, components, progress, stop_asked
            )
            progress.on_queued(record.round, num_rows)
    while not rounds.done:
        if (round := rounds.next_harvest()) is None:
            components.pools.load_signal.waits_for_trainer()
            metrics = await unless_stopped(components.wait_trained(rounds.num_trained), stop_asked, components.run_dir)
            components.pools.load_signal.goes_on()
            progress.on_trained(rounds.num_trained, metrics)
            rounds.trained(rounds.num_trained)
            if rounds.num_trained >= recovered.newest_version:  # until then the best version may not be known again
                await components.retain(rounds.versions_in_use(), progress.best_version)
            if reason := stop_reason(config.stop, progress.reached()):
                rounds.stop(reason)
            continue
        version = harvest_version(round, config.harvest.max_staleness)
        if components.pools.time_sharing.engines_sleep:
            await _switch("harvest", components.to_harvest(), components, progress, stop_asked)
        started = time.monotonic()
        progress.on_weights(started, version, await components.serve_weights(version))
        progress.on_round(round, version)
        components.pools.load_signal.harvests(round)
        harvest = await meditation.run(round, version)
        closed = await components.close_round(round, harvest_version(round + 1, config.harvest.max_staleness))
        heldout_ids = harvest.heldout_ids
        if recovered.open and recovered.open.round == round:
            heldout_ids += recovered.open.heldout_ids
        num_rows = await _hand_over(round, closed.row_sample_ids, heldout_ids, components, progress, stop_asked)
        rounds.closed(round)
        progress.on_engines(await components.pools.stats(), components.pools.num_replaced)
        progress.on_closed(harvest, closed, num_rows)
        check_rounds(config, components.run_dir, progress.rounds)
        if reason := stop_reason(config.stop, progress.reached()):
            rounds.stop(reason)
    progress.stop_reason = rounds.stop_reason
    progress.on_look(await look_at(components))
    return rounds


async def _hand_over(
    round: int,
    sample_ids: Sequence[str],
    heldout_ids: Sequence[str],
    components: RunComponents,
    progress: RunProgress,
    stop_asked: asyncio.Event,
) -> int:
    """A round that is harvested goes to the trainer, with its rehearsal. Returns its number of rows."""
    if components.rehearsals.lacks(round):
        started = time.monotonic()
        figures = await unless_stopped(components.rehearsal(round), stop_asked, components.run_dir)
        progress.on_rehearsal(round, figures, started)
    if components.config.colocates:
        await _switch("training", components.pools.time_sharing.end_harvest(), components, progress, stop_asked)
    started = time.monotonic()
    num_rows = await components.training_feed.put(round, sample_ids, heldout_ids)
    progress.on_handed_over(round, num_rows, time.monotonic() - started)
    return num_rows


async def _switch(
    to: str,
    work: Coroutine[Any, Any, None],
    components: RunComponents,
    progress: RunProgress,
    stop_asked: asyncio.Event,
) -> None:
    """The shared cards change sides."""
    started = time.monotonic()
    await unless_stopped(work, stop_asked, components.run_dir)
    seconds = time.monotonic() - started
    progress.metrics.log("turn", to=to, seconds=seconds)
    progress.live.turned(to, seconds)


async def _supervised(work: Coroutine[Any, Any, T], watches: Iterable[Coroutine[Any, Any, None]]) -> T:
    """The result of `work`; a failure that a watch sees ends it at once instead of leaving it waiting."""
    main = asyncio.ensure_future(work)
    watchers = [asyncio.ensure_future(watch) for watch in watches]
    try:
        await asyncio.wait([main, *watchers], return_when=asyncio.FIRST_COMPLETED)
        for watcher in watchers:
            if watcher.done() and not main.done():
                watcher.result()
        return await main
    finally:
        await cancelled([main, *watchers])
