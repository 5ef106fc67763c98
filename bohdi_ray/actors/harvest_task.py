"""The Ray tasks of a harvest: a bundle of tickets, one election's proposals, one step's part of samples.

They hold no state and may run again at any time: a ticket's seeds are its own. Text stays in the object store; only
small outcomes go back to the driver.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cache, partial
from typing import Any, TypeVar

import pyarrow as pa
import ray

from bohdi_ray.actors.routed_models import EngineClientConfig, PresentModels, RoutedModels
from bohdi_ray.engines.routing import RoutingTable
from bohdi_ray.errors import BohdiError, SourceLeftOut
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.examples.sample_table import to_table
from bohdi_ray.harvest.harvest import harvest_one
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.harvest.sprout import sprout
from bohdi_ray.randomness import generator
from bohdi_ray.records import Outcome, Proposals, SproutRequest, Ticket
from bohdi_ray.run.lease import Claim
from bohdi_ray.run.run_dir import RunDir

T = TypeVar("T")
log = logging.getLogger(__name__)


async def with_those_present(models: RoutedModels, work: Callable[[PresentModels], Awaitable[T]]) -> T:
    """Runs `work` with the sources that take part now. If one of them becomes unavailable, runs all of `work` again
    with the remaining sources, so that one result never mixes two sets of sources. Seeds belong to the work, so the
    remaining sources get the same requests again."""
    while True:
        try:
            return await work(models.present())
        except SourceLeftOut as left_out:
            log.info("%s; starting again without it", left_out)


async def together(models: RoutedModels, coroutines: list[Coroutine[Any, Any, T]]) -> list[T]:
    """Runs all and returns the results in order. The first failure cancels the others and is raised itself, not as an
    exception group."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await models.close()


def all_at_once(
    pieces: Sequence[Callable[[PresentModels], Awaitable[T]]],
    first_id: str,
    plan: HarvestPlan,
    table: RoutingTable,
    client_config: EngineClientConfig,
) -> list[T]:
    """What a task does: all its pieces of work together, each with the sources that take part. Results in order."""
    _freeze_once()

    async def work() -> list[T]:
        models = RoutedModels(table, client_config, generator(plan.config.seed, first_id, "routing"))
        return await together(models, [with_those_present(models, piece) for piece in pieces])

    return asyncio.run(work())


@cache
def _freeze_once() -> None:
    """What this process has imported stays: garbage collections need not look through it, at every bundle, in vain."""
    gc.collect()
    gc.freeze()


@ray.remote(num_cpus=0.01, num_returns=2, max_retries=3)
def harvest_bundle(
    tickets: list[Ticket], plan: HarvestPlan, table: RoutingTable, client_config: EngineClientConfig
) -> tuple[list[Outcome], pa.Table]:
    """Harvests the tickets concurrently. Returns their outcomes in order, and the accepted samples as a table."""

    harvests = [partial(harvest_one, ticket, plan=plan) for ticket in tickets]
    pairs = all_at_once(harvests, tickets[0].ticket_id, plan, table, client_config)
    return [outcome for outcome, _ in pairs], to_table([sample for _, sample in pairs if sample is not None])


@ray.remote(num_cpus=0.01, max_retries=3)
def propose(
    requests: list[SproutRequest], plan: HarvestPlan, table: RoutingTable, client_config: EngineClientConfig
) -> list[Proposals]:
    """Asks all sources that take part for names of the next children of several nodes at once."""

    polls = [partial(sprout, request, plan=plan) for request in requests]
    return all_at_once(polls, requests[0].request_id, plan, table, client_config)


@ray.remote(num_cpus=0.01, max_retries=3)
def write_part(
    run: RunDir, claim: Claim | None, round: int, step: int, accepted: list[Ticket], *tables: pa.Table
) -> str:
    """Writes the accepted samples of one step, in ticket order, as one part; returns its name."""
    whole = pa.concat_tables(tables)
    wanted = {(ticket.ticket_id, ticket.path) for ticket in accepted}
    found = zip(whole["sample_id"].to_pylist(), map(tuple, whole["path"].to_pylist()), strict=True)
    kept = whole.filter(pa.array([sample in wanted for sample in found], pa.bool_()))
    if kept.num_rows != len(accepted):
        # A bundle was harvested again after its node was lost, and its texts are not the ones that were judged.
        raise BohdiError(
            f"step {step} of round {round} has {len(accepted)} accepted samples, but only {kept.num_rows} of them "
            f"remain; a node with samples not yet stored was lost: continue with `bohdi resume {run.location}`, which "
            "harvests the step again"
        )
    if claim is not None:
        claim.check()
    return SampleStore(run).write_part(round, step, kept.sort_by("sample_id"))
