"""The main loop of a fusion. Read this first.

What runs where: on the driver's node run the driver itself (this file) and three control actors, the tree manager, the
sample queue and the directory of engines. Every engine of a source or of the target is a Ray actor in a placement group
of its own; the trainer is one Ray Train run in another. Harvests are Ray tasks wherever there is a CPU slot.

What runs at the same time: while the trainer works on the rows of round r, the engines harvest round r + 1 (with
`harvest.max_staleness: 1`; rounds.py says exactly which round may run when). Beside the loop run the watches of
driver/components.py: over the engines, over the trainer, over figures; and the heartbeat of the lease.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.job_paths import kept_inputs
from bohdi_ray.config.run_naming import named_run
from bohdi_ray.driver.components import ComponentFactories, RunComponents, assembled
from bohdi_ray.driver.finish import finish
from bohdi_ray.driver.nothing_learned import check_rounds
from bohdi_ray.driver.resume import ResumeRequest, reopen, with_schedule
from bohdi_ray.driver.session import ActiveRun, active_run, keep_lease
from bohdi_ray.driver.signals import supervised
from bohdi_ray.observe.summary import Summary
from bohdi_ray.placement.ray_session import ray_session
from bohdi_ray.placement.shared_storage_check import check_all_hosts
from bohdi_ray.preflight import local_node
from bohdi_ray.questions.domains import corpus_files, keep_corpus
from bohdi_ray.rounds import harvest_version
from bohdi_ray.run.environment import environment
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.withdrawal import withdrawn_if_refused


def fuse(
    config: FusionConfig,
    *,
    resume: bool = False,
    reset_optimizer: bool = False,
    address: str | None = None,
    parts: ComponentFactories | None = None,
) -> Summary:
    """Runs a whole fusion and returns its figures; the same are in RUN/summary.json.

    `resume` continues the run in `config.run_dir` after its last commit; with `reset_optimizer` training continues from
    its weights with a new optimizer.

    `address` is a Ray cluster's; without one, RAY_ADDRESS counts, else Ray is started on this machine. Raises
    ConfigError before anything starts if the input cannot work, Interrupted after Ctrl-C, and other BohdiErrors with
    a remedy. `parts` lets tests script engines and trainer.
    """
    started = time.time()
    if parts is None:
        from bohdi_ray.driver.real_components import real_parts  # here, so that a scripted fusion needs none of it

        parts = real_parts()
    request = None
    if resume:
        config, changed = reopen(kept_inputs(config, resume=True), reset_optimizer)
        request = ResumeRequest(config, tuple(changed), reset_optimizer)
    with named_run(config, datetime.now()) as named:
        config = with_schedule(named)
        parts.preflight(config, address, resume)
        config = kept_inputs(config)
        with withdrawn_if_refused() as begun, ray_session(address, local_node(config).num_cpus):
            check_all_hosts(config.run_dir, corpus_files(config))
            settled = parts.settle(config)  # stored is what was asked for: a resumed run may settle otherwise
            if resume:
                run = RunDir.open(config.run_dir)
            else:
                begun.append(run := RunDir.create(config.run_dir, config, environment()))
            keep_corpus(settled, run)
            return asyncio.run(_fuse(settled, run, parts, started, request))


async def _fuse(
    config: FusionConfig, run: RunDir, parts: ComponentFactories, started: float, request: ResumeRequest | None
) -> Summary:
    """Creates, places and starts everything, runs the loop, finishes. A failure that a watch sees ends it at once."""
    async with (
        active_run(config, run, parts.observers, started, request) as (active, lease),
        assembled(active, parts) as components,
    ):
        await supervised(_loop(active, components), (*components.watches(), keep_lease(lease)))
        return await supervised(finish(active, components, parts), [keep_lease(lease)])


async def _loop(active: ActiveRun, components: RunComponents) -> None:
    """Harvests and trains round after round until a stop rule holds and all that was harvested is trained.

    Consumes: committed weights from the trainer. Produces: rows for its queue.
    Waits for: weights of version r - k before round r. Unblocked by: the trainer's COMMIT of round r - k - 1.
    """
    ledger, schedule, staleness = active.ledger, active.ledger.schedule, active.config.harvest.max_staleness
    ledger.check_stop_rules(await components.num_left())
    await components.hand_over_restored()
    while not schedule.done:
        round = schedule.next_harvest()
        if round is None:  # its weights are not trained yet, or no further round is harvested
            active.add_trained(await components.wait_trained(schedule.num_trained))
            await components.cleanup.delete_checkpoints()
        else:
            version = harvest_version(round, staleness)
            await components.serve_weights(version)
            harvest = await components.harvest(round, version)
            closed = await components.close_round(round, harvest_version(round + 1, staleness))
            handed = await components.hand_over(harvest, closed)
            active.add_engines(await components.pools.stats(), components.pools.num_replaced)
            active.add_harvested(harvest, closed, handed.num_rows, handed.rehearsal_tokens)
            check_rounds(active.config, active.run_dir, ledger.rounds)
        ledger.check_stop_rules(await components.num_left())
    await components.telemetry.poll()
