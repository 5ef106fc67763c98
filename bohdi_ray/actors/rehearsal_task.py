"""The Ray tasks of a rehearsal: a bundle of questions for version 0 of the target, and the round's file of rows.

As in harvest_task.py, tasks keep no state, each question has its own seed, and texts stay in the object store.
"""

from __future__ import annotations

from functools import partial

import ray

from bohdi_ray.actors.harvest_task import all_at_once
from bohdi_ray.actors.routed_models import EngineClientConfig
from bohdi_ray.engines.routing import RoutingTable
from bohdi_ray.examples.rehearsal_store import RehearsalCounts, RehearsalStore, figures_of
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.harvest.rehearsal import rehearse_one
from bohdi_ray.records import RehearsalRow, Ticket
from bohdi_ray.run.lease import Claim
from bohdi_ray.run.run_dir import RunDir


@ray.remote(num_cpus=0.01, max_retries=3)
def rehearsal_bundle(
    tickets: list[Ticket], plan: HarvestPlan, table: RoutingTable, client_config: EngineClientConfig
) -> list[RehearsalRow]:
    """Asks these questions concurrently. Returns one row per question, in order; a row that is rejected says why."""

    asked = [partial(rehearse_one, ticket, plan=plan) for ticket in tickets]
    return all_at_once(asked, tickets[0].ticket_id, plan, table, client_config)


@ray.remote(num_cpus=0.01, max_retries=3)
def write_rehearsal(run: RunDir, claim: Claim | None, round: int, *bundles: list[RehearsalRow]) -> RehearsalCounts:
    """Writes all questions asked for a round and returns the counts of kept and rejected ones."""
    if claim is not None:
        claim.check()
    rows = [row for bundle in bundles for row in bundle]
    RehearsalStore(run).write(round, rows)
    return figures_of(rows)
