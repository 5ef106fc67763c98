"""The TreeManager actor: the one owner of tree and bandit state, and the one writer of the journal.

Thin: it serialises calls into `tree.manager.TreeManager` and writes a journal segment after every commit, before it
acknowledges. On a start or restart it replays the segments it finds, so whoever calls sees a delay and nothing else:
every call is idempotent. It never waits for a model and never sees text.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from bohdi_ray.config import FusionConfig
from bohdi_ray.records import Outcome, Proposals
from bohdi_ray.storage.run_dir import RunDir
from bohdi_ray.storage.segments import Segments
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.messages import RoundClosed, Work


@dataclass(frozen=True, slots=True)
class Assignment:
    """What there is to do now: new tickets, open elections, and the step whose outcomes may be committed next."""

    work: Work
    committable: int | None
    num_steps_left: int  # of this round, not committed yet
    incarnation: str  # another one after a restart: tickets not yet journalled are then issued again, in any order


class TreeManagerActor:
    def __init__(self, config: FusionConfig, seeds: Any, run: RunDir):
        self._incarnation = uuid.uuid4().hex
        self._journal = Segments(run)
        read = self._journal.read_segments()
        self._next_segment = len(read.segments)
        self._manager = TreeManager.replay(config, seeds, [data for _, data in read.segments])

    def assignment(self, cursor: int) -> Assignment:
        """Tickets of this round from position `cursor` on, and all elections that are open."""
        work = self._manager.work(cursor)
        return Assignment(work, self._manager.committable(), self._manager.num_steps_left, self._incarnation)

    def propose(self, answers: Sequence[Proposals]) -> None:
        """Takes the proposals for some elections; a second answer to the same request is ignored."""
        for proposals in answers:
            self._manager.propose(proposals)

    def screen(self, step: int, outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
        """The step's outcomes in ticket order, repeated questions turned into failures."""
        return self._manager.screen(step, outcomes)

    def commit_step(self, step: int, outcomes: Sequence[Outcome], part: str) -> None:
        """Applies the step's credit; returns once the segment that names `part` is durable."""
        self._manager.commit_step(step, outcomes, part)
        self._write()

    def close_round(self, next_round: int, next_version: int) -> RoundClosed:
        """Draws the round's rows, introspects, opens the next round; returns once that is durable."""
        closed = self._manager.close_round(next_round, next_version)
        self._write()
        return closed

    def _write(self) -> None:
        segment = self._manager.take_segment()
        if segment:
            self._journal.write_segment(self._next_segment, segment)
            self._next_segment += 1

    def digest(self) -> str:
        """The tree's digest: a function of configuration and seed when engines answer deterministically."""
        return self._manager.digest()

    def describe(self) -> Any:
        """The tree as nested plain data."""
        return self._manager.describe()

    def stats(self) -> Any:
        """Counters of the conservation law and of the tree."""
        return self._manager.stats()


def start_tree_manager(config: FusionConfig, seeds: Any, run: RunDir) -> Any:
    """The tree manager of a run; Ray restarts it, and it finds its state in the journal."""
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    return ray.remote(**options)(TreeManagerActor).remote(config, seeds, run)
