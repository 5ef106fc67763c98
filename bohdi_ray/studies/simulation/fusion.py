"""One simulated fusion: makes every call that a real fusion makes to its TreeManager; a simulated world gives the
answers.

Round r harvests with the target as it was after max(0, r - staleness) rounds of training; the rows that round r leaves
are trained when it closes. All chance is keyed by (seed, purpose), so two policies meet the same world, the same luck
of answer t of a step, and the same proposals for the same request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from bohdi_ray.config import FusionConfig
from bohdi_ray.randomness import generator
from bohdi_ray.records import Outcome, Ticket
from bohdi_ray.rounds import harvest_version
from bohdi_ray.studies.simulation.judge import JudgeDraws
from bohdi_ray.studies.simulation.target import TARGET, SimulatedSample, Target
from bohdi_ray.studies.simulation.world import World
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.messages import RoundClosed
from bohdi_ray.tree.policies.policy import Policy


class Planner(Protocol):
    """A policy that is told about the fusion before its walks and draws. Only in simulations."""

    def before_walks(self, fusion: SimulatedFusion) -> None: ...

    def before_rows(self, fusion: SimulatedFusion) -> None: ...


@dataclass(slots=True)
class Credit:
    """One rewarded ticket."""

    round: int
    leaf: int
    node: Any  # the tree's leaf
    reward: int


@dataclass
class Trace:
    """The data that a simulated fusion keeps for metrics."""

    skills: list[np.ndarray] = field(default_factory=list)  # the target by weights version, [L] each
    num_samples: list[int] = field(default_factory=list)  # after each round
    credits: list[list[Credit]] = field(default_factory=list)  # by round
    closed: list[RoundClosed] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)  # that each round's harvest met
    stats: dict[str, Any] = field(default_factory=dict)


def simulation_config(seed: int, depth: int, num_sources: int, **sections: Any) -> FusionConfig:
    """A fusion's configuration with the defaults of real runs, but without held-out samples, because the simulator
    measures skill itself. `sections` replace whole sections."""
    model = {"kind": "vllm", "model": "./simulated"}
    plain = {
        "run_dir": "/simulated",
        "seed": seed,
        "sources": [{"name": f"source-{number}", **model} for number in range(num_sources)],
        "target": {"name": "target", **model},
        "tree": {"depth": depth},
        "sprout": {"requests_ahead": 0},
        "harvest": {"heldout_fraction": 0.0},
        **sections,
    }
    return FusionConfig.model_validate(plain)


class SimulatedFusion:
    def __init__(
        self, world: World, config: FusionConfig, policy: Policy | None = None, planner: Planner | None = None
    ):
        self.world, self.config, self.planner = world, config, planner
        self.manager = TreeManager(config, policy=policy)
        self.target = Target(world)
        self.samples: dict[str, SimulatedSample] = {}
        self.by_leaf: list[list[SimulatedSample]] = [[] for _ in range(world.num_leaves)]
        self.leaf_of_node: dict[Any, int] = {}
        self.new_samples: list[SimulatedSample] = []  # of the round under way
        self.round = 0
        self.trace = Trace(skills=[self.target.skill.copy()])
        self._cursor = 0
        self._tickets: dict[int, list[Ticket]] = {}
        self._num_names = config.sprout.proposals_per_source

    def run(self, num_rounds: int) -> Trace:
        for _ in range(num_rounds):
            self._round()
        self.trace.stats = self.manager.stats()
        return self.trace

    @property
    def version(self) -> int:
        """The target's version in this round's harvest."""
        return harvest_version(self.round, self.config.harvest.max_staleness)

    def num_walks_ahead(self) -> int:
        """Number of walks that start now, before the next credit."""
        meditation, lag = self.config.meditation, self.config.harvest.step_lag
        num_committed = meditation.steps - self.manager.num_steps_left
        startable = min(meditation.steps, num_committed + lag + 1)
        return (startable - num_committed - len(self._tickets)) * meditation.walks_per_step

    def leaves_of_round(self) -> list[int]:
        """Leaves of all samples of this round, and of the tickets that are still in flight."""
        under_way = [self.world.leaf(ticket.path) for tickets in self._tickets.values() for ticket in tickets]
        return [sample.leaf for sample in self.new_samples] + under_way

    def _round(self) -> None:
        manager, trace = self.manager, self.trace
        self._tickets, self.new_samples = {}, []
        trace.versions.append(self.version)
        trace.credits.append([])
        while manager.num_steps_left:
            if self.planner is not None:
                self.planner.before_walks(self)
            self._commit(self._walk())
        if self.planner is not None:
            self.planner.before_rows(self)
        next_round = self.round + 1
        closed = manager.close_round(next_round, harvest_version(next_round, self.config.harvest.max_staleness))
        self.target.train(self.samples[sample_id] for sample_id in closed.row_sample_ids)
        trace.skills.append(self.target.skill.copy())
        trace.num_samples.append(len(self.samples))
        trace.closed.append(closed)
        self.round = next_round

    def _walk(self) -> int:
        """Answers proposals until a step may be committed; returns that step."""
        manager = self.manager
        while (step := manager.committable()) is None:
            work = manager.work(self._cursor)
            assert work.sprouts, "walks neither end nor wait"
            for request in work.sprouts:
                manager.propose(self.world.propose(request, self._num_names))
        work = manager.work(self._cursor)
        self._cursor = work.cursor
        for ticket in work.tickets:
            self._tickets.setdefault(ticket.step, []).append(ticket)
        return step

    def _commit(self, step: int) -> None:
        world, spec = self.world, self.world.spec
        # In ticket order: walks that waited for names issue theirs late.
        tickets = sorted(self._tickets.pop(step, []), key=lambda ticket: ticket.index)
        sources, target = world.sources_in(self.round), self.trace.skills[self.version]
        num_models = len(sources) + 1
        rng = generator(world.seed, self.round, step, "answers")
        draws = JudgeDraws(rng, self.config.meditation.walks_per_step, num_models)
        leaves = np.zeros(self.config.meditation.walks_per_step, int)
        for ticket in tickets:
            leaves[ticket.index] = world.leaf(ticket.path)
        skills = np.vstack((sources, target))[:, leaves].T
        winners = draws.winners(skills, spec.noise, spec.judge).tolist()
        outcomes = []
        for ticket in tickets:
            i = ticket.index
            if draws.failure[i] < spec.failure_rate:
                outcomes.append(Outcome(ticket.ticket_id, failure="invalid_question"))
                continue
            author = TARGET if winners[i] == num_models - 1 else winners[i]
            sample = SimulatedSample(
                int(leaves[i]),
                author,
                target if author == TARGET else sources[author],
                spec.noise * draws.luck[i, winners[i]],
            )
            self._take(ticket, sample)
            reward = int(author != TARGET)
            outcomes.append(Outcome(ticket.ticket_id, reward=reward, question_hash=ticket.ticket_id))
        self.manager.commit_step(step, outcomes, f"part-{self.round}-{step}")
        self.manager.take_segment()

    def _take(self, ticket: Ticket, sample: SimulatedSample) -> None:
        self.samples[ticket.ticket_id] = sample
        self.by_leaf[sample.leaf].append(sample)
        self.new_samples.append(sample)
        node = self.manager.tree.find(ticket.path)
        self.leaf_of_node[node] = sample.leaf
        self.trace.credits[-1].append(Credit(self.round, sample.leaf, node, int(sample.author != TARGET)))
