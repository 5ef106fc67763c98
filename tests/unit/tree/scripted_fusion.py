"""All calls a fusion makes to a TreeManager, with scripted models: what they say depends on the request alone."""

import random
from dataclasses import dataclass, field
from io import BytesIO

from bohdi_ray.config import FusionConfig
from bohdi_ray.randomness import generator
from bohdi_ray.records import Outcome, Proposals, SproutRequest, Ticket, question_hash
from bohdi_ray.tree.knowledge_tree import DIGEST_MODULUS, KnowledgeTree
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.messages import RoundClosed
from bohdi_ray.tree.node_hash import hash_of
from bohdi_ray.tree.policies.dynabranches import DynaBranches
from bohdi_ray.tree.record import snapshot

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def make_config(**sections) -> FusionConfig:
    model = {"kind": "vllm", "model": "./m"}
    # The paper's, the one with the most rules.
    sections["bandit"] = {"kind": "dynabranches", **sections.get("bandit", {})}
    sections.setdefault("meditation", {"steps": 3, "walks_per_step": 8})
    sections.setdefault("enlightenment", {"steps": 2, "rows_per_step": 10})
    return FusionConfig.model_validate(
        {
            "run_dir": "/nowhere",
            "seed": 7,
            "sources": [{"name": "source-a", **model}, {"name": "source-b", **model}],
            "target": {"name": "target", **model},
            **sections,
        }
    )


def scripted_names(request: SproutRequest, num_names: int = 10, variety: int = 400) -> Proposals:
    """Names from a small alphabet, so that repeats, ties and names taken elsewhere all happen; some requests fail."""
    rng = generator(11, request.request_id)
    numbers = rng.integers(0, variety, num_names).tolist()
    names = [f"Field {LETTERS[number // 26 % 26]}{LETTERS[number % 26].lower()}" for number in numbers]
    if rng.random() < 0.1:
        names = []
    return Proposals(request.request_id, tuple(names), num_names - len(names), 10)


def scripted_outcome(ticket: Ticket) -> Outcome:
    """Some tickets fail, some questions repeat in their leaf, some are held out."""
    rng = generator(12, ticket.ticket_id)
    if rng.random() < 0.1:
        return Outcome(ticket.ticket_id, failure="no_valid_question")
    question = f"question {rng.integers(6)} on {ticket.path}"
    return Outcome(
        ticket.ticket_id,
        reward=int(rng.random() < 0.3 + 0.1 * (ord(ticket.path[0][-1]) % 6)),
        question_hash=question_hash(question),
        heldout=bool(rng.random() < 0.1),
    )


def snapshot_of(manager: TreeManager) -> bytes:
    """What a snapshot's file holds."""
    sink = BytesIO()
    snapshot.write(manager.copy_state(), sink)
    return sink.getvalue()


def digest_afresh(tree: KnowledgeTree) -> int:
    """The digest computed from all nodes, whatever was touched."""
    return sum(map(hash_of, (tree.root, *tree.nodes()))) % DIGEST_MODULUS


@dataclass
class ScriptedFusion:
    """Drives a manager to the end of its rounds. `order` shuffles everything that timing may shuffle."""

    manager: TreeManager
    num_rounds: int
    order: random.Random = field(default_factory=lambda: random.Random(0))
    staleness: int = 1
    variety: int = 400
    num_names: int = 10
    answer_ahead: float = 0.5  # share of turns in which an answer asked ahead may come before one that is waited for

    segments: list[bytes] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)  # after each commit point
    closed: list[RoundClosed] = field(default_factory=list)
    tickets: dict[str, Ticket] = field(default_factory=dict)
    requests: dict[str, SproutRequest] = field(default_factory=dict)
    max_commits: int | None = None

    def run(self) -> "ScriptedFusion":
        while self.manager.stats()["round"] < self.num_rounds:
            if self.max_commits is not None and len(self.digests) >= self.max_commits:
                break
            self.turn()
        return self

    def turn(self) -> None:
        manager = self.manager
        work = manager.work(0)
        self.tickets |= {ticket.ticket_id: ticket for ticket in work.tickets}
        self.requests |= {request.request_id: request for request in work.sprouts}
        step = manager.committable()
        if step is not None:
            self.commit(step)
        elif work.sprouts:
            pool = work.sprouts if self.order.random() < self.answer_ahead else work.sprouts[:1]
            request = self.order.choice(pool)
            manager.propose(scripted_names(request, self.num_names, self.variety))
            if self.order.random() < 0.3:
                manager.propose(Proposals(request.request_id, ("Second Answer",), 0, 0))
        else:
            round = work.round
            version = max(0, round + 1 - self.staleness)
            self.closed.append(manager.close_round(round + 1, version))
            self.point()

    def commit(self, step: int) -> None:
        work = self.manager.work(0)
        outcomes = [scripted_outcome(ticket) for ticket in work.tickets if ticket.step == step]
        self.order.shuffle(outcomes)
        screened = list(self.manager.screen(step, outcomes))
        self.order.shuffle(screened)
        self.manager.commit_step(step, screened, f"part-{work.round}-{step}")
        self.point()

    def point(self) -> None:
        self.segments.append(self.manager.take_segment())
        self.digests.append(self.manager.digest())


class Sharing(DynaBranches):
    """Credits an arm, discounts all its siblings and keeps something in memory: all that a policy may do."""

    ages = True

    def credit(self, arms, arm, reward):
        end = len(arms.children) + 1
        arms.alpha[1:end] *= 0.99
        arms.beta[1:end] *= 0.99
        super().credit(arms, arm, reward)
        arms.memory = (arms.memory + bytes([arm % 256, reward]))[-6:]

    def age(self, arms):
        end = len(arms.children) + 1
        arms.alpha[1:end] = 1 + (arms.alpha[1:end] - 1) * 0.9
        arms.memory = b"aged"


def whole(manager):
    """All a manager holds, also what its digest does not see: proposals, requests' numbers, what may be tested."""
    state = manager._state
    nodes = [(node.path, node.arms and node.arms.proposals) for node in (state.tree.root, *state.tree.nodes())]
    samples = [(node.trainable_ids(), node.heldout_ids(), node.questions) for node in state.tree.nodes()]
    memory = [(node.arms.memory, node.arms.num_polls) for node in state.tree.nodes() if node.arms is not None]
    names = (state.tree._names, state.tree._new_names)
    counts = (state.counts, state.issued, state.in_flight, state.abandoned, state.last_closed)
    return manager.digest(), nodes, samples, memory, names, counts, {node.path for node in state.testable}
