"""The Ray tasks of a replay: a bundle of questions for version 0 of the target, and the round's file of rows.

As harvest_task.py: no state, seeds by question, texts stay in the object store.
"""

from __future__ import annotations

from functools import partial

import ray

from bohdi_ray.actors.harvest_task import all_at_once
from bohdi_ray.actors.routed_models import Reach
from bohdi_ray.engines.routing import RoutingTable
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.harvest.replay import replay_one
from bohdi_ray.records import ReplayRow, Ticket
from bohdi_ray.storage.lease import Claim
from bohdi_ray.storage.replays import ReplayFigures, ReplayStore, figures_of
from bohdi_ray.storage.run_dir import RunDir


@ray.remote(num_cpus=0.01, max_retries=3)
def replay_bundle(tickets: list[Ticket], plan: HarvestPlan, table: RoutingTable, reach: Reach) -> list[ReplayRow]:
    """Asks for these questions all at once; rows in order, with the reason of those that are none."""

    asked = [partial(replay_one, ticket, plan=plan) for ticket in tickets]
    return all_at_once(asked, tickets[0].ticket_id, plan, table, reach)


@ray.remote(num_cpus=0.01, max_retries=3)
def write_replay(run: RunDir, claim: Claim | None, round: int, *bundles: list[ReplayRow]) -> ReplayFigures:
    """Writes all that was asked for a round, and tells what came of it."""
    if claim is not None:
        claim.check()
    rows = [row for bundle in bundles for row in bundle]
    ReplayStore(run).write(round, rows)
    return figures_of(rows)
