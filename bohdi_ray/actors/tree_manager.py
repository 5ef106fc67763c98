"""The TreeManager actor: the one owner of tree and bandit state, and the one writer of the journal.

Thin: it serialises calls into `tree.manager.TreeManager` and writes a journal segment after every commit, before it
acknowledges. A thread writes a snapshot of the tree from time to time. On a start or restart the actor reads the newest
snapshot and the segments after it. Callers only see a delay, because every call is idempotent. It never waits for a
model and never sees text.
"""

from __future__ import annotations

import gc
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from bohdi_ray.actors.control_actor_options import restarted_actor
from bohdi_ray.config import FusionConfig
from bohdi_ray.names import RunNames
from bohdi_ray.records import DomainPath, Outcome, Proposals
from bohdi_ray.run.lease import Claim
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.run.tree_snapshots import MIN_EVENTS, SnapshotWriter, TreeSnapshots, restore
from bohdi_ray.tree.messages import RoundClosed, Work


@dataclass(frozen=True, slots=True)
class Assignment:
    """The current work: new tickets, open elections, and the step whose outcomes may be committed next."""

    work: Work
    committable: int | None
    num_steps_left: int  # of this round, not committed yet
    incarnation: str  # another one after a restart: tickets not yet journalled are then issued again, in any order


class TreeManagerActor:
    def __init__(
        self,
        config: FusionConfig,
        seeds: Any,
        run: RunDir,
        claim: Claim | None = None,
        snapshot_events: int = MIN_EVENTS,
    ):
        """`claim`: the driver's claim on the run; `snapshot_events`: the least number of events between two
        snapshots."""
        self._claim, self._location = claim, run.address()
        self._incarnation = uuid.uuid4().hex
        TreeSnapshots(run).clean()
        self._journal = Segments(run)
        restored = restore(config, seeds, run)
        self._manager, self._next_segment = restored.manager, restored.next_segment
        self._snapshots = SnapshotWriter(run, restored.num_events, snapshot_events)
        # The tree is never garbage; looking through a million leaves for some would stop the actor for 0.3 s each time.
        gc.freeze()

    def assignment(self, cursor: int) -> Assignment:
        """Tickets of this round from position `cursor` on, and all open elections."""
        work = self._manager.work(cursor)
        return Assignment(work, self._manager.committable(), self._manager.num_steps_left, self._incarnation)

    def propose(self, answers: Sequence[Proposals]) -> None:
        """Takes the proposals for some elections; a second answer to the same request is ignored."""
        for proposals in answers:
            self._manager.propose(proposals)

    def screen(self, step: int, outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
        """The step's outcomes in ticket order, with repeated questions turned into failures."""
        return self._manager.screen(step, outcomes)

    def commit_step(self, step: int, outcomes: Sequence[Outcome], part: str) -> None:
        """Applies the step's credit; returns once the segment that names `part` is durable."""
        self._manager.commit_step(step, outcomes, part)
        self._write()

    def close_round(self, next_round: int, next_version: int) -> RoundClosed:
        """Draws the round's rows, introspects, opens the next round; returns once that is durable."""
        closed = self._manager.close_round(next_round, next_version)
        segment = self._write()
        if segment:
            self._snapshots.round_closed(self._manager, closed.round, self._next_segment, segment)
        return closed

    def draw_leaves(self, round: int, number: int) -> tuple[DomainPath, ...]:
        """Leaves for the rehearsal questions of `round`, drawn from the current tree."""
        return self._manager.draw_leaves(round, number)

    def _write(self) -> bytes:
        """The segment that was written; empty when this was a repeated call."""
        segment = self._manager.take_segment()
        if segment:
            if self._claim is not None:
                self._claim.check()
            self._journal.write_segment(self._next_segment, segment)
            self._next_segment += 1
            self._snapshots.journalled(segment)
        return segment

    def digest(self) -> str:
        """The tree's digest: a function of configuration and seed when engines answer deterministically."""
        return self._manager.digest()

    def domains_by_level(self) -> tuple[int, ...]:
        """Number of domains at each level, from the root's children to the leaves."""
        return self._manager.tree.domains_by_level()

    def location(self) -> str:
        """The location of the run directory, for tools that find the run on a cluster."""
        return self._location

    def stats(self) -> Any:
        """Counters of the conservation law and of the tree."""
        return self._manager.stats()


def start_tree_manager(
    config: FusionConfig,
    seeds: Any,
    run: RunDir,
    claim: Claim | None = None,
    snapshot_events: int = MIN_EVENTS,
    names: RunNames | None = None,
) -> Any:
    """Starts the tree manager of a run. Ray restarts it, and it recovers its state from the run directory."""
    options = restarted_actor("tree", names)
    return ray.remote(**options)(TreeManagerActor).remote(config, seeds, run, claim, snapshot_events)
