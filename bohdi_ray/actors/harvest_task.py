"""The Ray tasks of a harvest: a bundle of tickets, one election's proposals, one step's part of samples.

They hold no state and may run again at any time: a ticket's seeds are its own. Text stays in the object store; only
small outcomes go back to the driver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pyarrow as pa
import ray

from bohdi_ray.actors.routed_models import RoutedModels
from bohdi_ray.engines.routing import RoutingTable
from bohdi_ray.errors import BohdiError
from bohdi_ray.harvest.harvest import harvest_one
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.harvest.sprout import sprout
from bohdi_ray.randomness import generator
from bohdi_ray.records import Outcome, Proposals, Sample, SproutRequest, Ticket
from bohdi_ray.storage.lease import Claim
from bohdi_ray.storage.run_dir import RunDir
from bohdi_ray.storage.samples import SampleStore, to_table

T = TypeVar("T")


async def together(models: RoutedModels, coroutines: list[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order. The first failure ends the others and is raised itself, not as a group."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await models.close()


@ray.remote(num_cpus=0.01, num_returns=2, max_retries=3)
def harvest_bundle(
    tickets: list[Ticket], plan: HarvestPlan, table: RoutingTable, directory: Any, request_s: float, replace_s: float
) -> tuple[list[Outcome], pa.Table]:
    """Harvests the tickets all at once. Returns their outcomes in order, and the accepted samples as a table."""

    async def work() -> list[tuple[Outcome, Sample | None]]:
        rng = generator(plan.seed, tickets[0].ticket_id, "routing")
        models = RoutedModels(table, directory, request_s, replace_s, rng)
        return await together(models, [harvest_one(ticket, models, plan) for ticket in tickets])

    pairs = asyncio.run(work())
    return [outcome for outcome, _ in pairs], to_table([sample for _, sample in pairs if sample is not None])


@ray.remote(num_cpus=0.01, max_retries=3)
def propose(
    requests: list[SproutRequest],
    plan: HarvestPlan,
    table: RoutingTable,
    directory: Any,
    request_s: float,
    replace_s: float,
) -> list[Proposals]:
    """Asks all sources for names of the next children of several nodes at once."""

    async def work() -> list[Proposals]:
        rng = generator(plan.seed, requests[0].request_id, "routing")
        models = RoutedModels(table, directory, request_s, replace_s, rng)
        return await together(models, [sprout(request, models, plan) for request in requests])

    return asyncio.run(work())


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
            f"step {step} of round {round} has {len(accepted)} accepted samples, but {kept.num_rows} of them are left; "
            "a node with samples not yet stored was lost: start the run again"
        )
    if claim is not None:
        claim.check()
    return SampleStore(run).write_part(round, step, kept.sort_by("sample_id"))
