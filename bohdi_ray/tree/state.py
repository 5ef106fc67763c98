"""The tree manager's whole state, and the only way to change it: `apply` an event.

Live work and replay both use it, so a journal rebuilds exactly the state that wrote it. Nothing is decided here: no
draw, no election, no test.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import RunDirError
from bohdi_ray.records import DomainPath, Proposals, Ticket, ticket_id
from bohdi_ray.tree.elections import NO_VALID_NAME, parse_request_id
from bohdi_ray.tree.knowledge_tree import KnowledgeTree, Node
from bohdi_ray.tree.messages import Counts, Rebirth, RoundClosed
from bohdi_ray.tree.names import Grown, Seeds, seed_paths
from bohdi_ray.tree.policies.policy import Policy
from bohdi_ray.tree.record import journal
from bohdi_ray.tree.record.event_order import Sequence

_pack = msgspec.msgpack.Encoder(order="deterministic").encode


class TreeState:
    def __init__(self, config: FusionConfig, policy: Policy, seeds: Seeds):
        self.config = config
        self.policy = policy
        self.tree = KnowledgeTree(config.tree.depth)
        self.grown = seeds if isinstance(seeds, Grown) else None
        self.drawn: dict[DomainPath, int] = {}  # of a grown tree: tickets issued since the run began, by leaf
        self.places: dict[int, dict[int, int]] = {}  # of a grown tree: place of ticket by index, by step in flight
        for path in seed_paths(seeds, config.tree):
            self.tree.add(self.tree.find(path[:-1]), path[-1])
        self.tree.start_step()
        self.count_left()
        self.round = -1
        self.weights_version = 0
        self.num_walked = 0  # steps of this round whose walks are done
        self.num_committed = 0  # steps of this round whose credit is committed
        self.in_flight: dict[int, dict[int, DomainPath]] = {}  # by step not yet committed: path of ticket by index
        self.issued: list[Ticket] = []  # in this round, in order of issue
        self.num_issued_before = 0  # in earlier rounds
        self.abandoned: dict[int, int] = {}  # in this round, by step
        self.abandoned_for: dict[str, int] = {}  # the same walks by reason
        self.closed_for: dict[DomainPath, str] = {}  # why `unk` was closed in this round, by node
        self.testable: set[Node] = set()  # domains with enough rewards in their window for introspection
        self.last_closed: RoundClosed | None = None
        self.counts = Counts()

    def apply(self, event: journal.AnyEvent) -> None:
        _APPLY[type(event)](self, event)

    def ticket(self, step: int, index: int, path: DomainPath) -> Ticket:
        place = self.places.get(step, {}).get(index, 0)
        return Ticket(ticket_id(self.round, step, index), self.round, step, index, path, self.weights_version, place)

    def count_left(self) -> None:
        """Sets what is left at every node of a grown tree, from `drawn`. Raises KeyError for a leaf it does not
        have."""
        if self.grown is None:
            return
        for node in (self.tree.root, *self.tree.nodes()):
            node.left = 0
        for path, number in self.grown.tickets.items():
            self._take(path, self.drawn.get(path, 0) - number)

    def _take(self, path: DomainPath, number: int) -> None:
        node: Node | None = self.tree.find(path)
        while node is not None:
            assert node.left is not None
            node.left -= number
            node = node.parent

    def num_in_flight(self) -> int:
        return sum(len(paths) for paths in self.in_flight.values())

    def digest(self) -> str:
        """The digest of tree and progress. At a commit point it is a function of config, seeds and outcomes alone."""
        counts = dataclasses.asdict(self.counts)
        for name in ("num_proposals", "num_invalid_proposals", "num_sprout_tokens"):
            del counts[name]  # proposals asked ahead count when they arrive, which is a matter of timing
        flight = [(step, sorted(paths.items())) for step, paths in sorted(self.in_flight.items())]
        rows = self.last_closed and self.last_closed.row_sample_ids
        whole = (
            f"{self.tree.digest():032x}",
            (self.round, self.weights_version, self.num_walked, self.num_committed),
            flight,
            counts,
            rows,
        )
        if self.grown is not None:
            whole = (*whole, sorted(self.drawn.items()))  # type: ignore[assignment]
        return hashlib.blake2b(_pack(whole), digest_size=16).hexdigest()

    def stats(self) -> dict[str, Any]:
        """Counts since the run began, and the size of the tree."""
        counts = dataclasses.asdict(self.counts)
        counts["num_failed"] = dict(sorted(counts["num_failed"].items()))
        return {
            **counts,
            "num_in_flight": self.num_in_flight(),
            "num_nodes": self.tree.num_nodes,
            "num_leaves": self.tree.num_leaves,
            "num_trainable": self.tree.root.num_trainable,
            "round": self.round,
            "weights_version": self.weights_version,
            "num_left": self.tree.root.left,
        }

    def check_conservation(self) -> None:
        counts = self.counts
        ended = counts.num_committed + sum(counts.num_failed.values())
        assert counts.num_issued == ended + self.num_in_flight(), (counts, self.in_flight)

    # One method per kind of event.

    def _round_opened(self, event: journal.RoundOpened) -> None:
        self.round = event.round
        self.weights_version = event.weights_version
        self.num_walked = self.num_committed = 0
        self.num_issued_before += len(self.issued)
        self.issued = []
        self.abandoned = {}
        self.abandoned_for = {}
        self.closed_for = {}

    def _proposed(self, event: journal.Proposed) -> None:
        path, poll = parse_request_id(event.request_id)
        arms = self.tree.find(path).arms
        if poll < arms.num_polls or poll in arms.proposals:
            return  # a second answer, or one that a snapshot holds already
        arms.proposals[poll] = Proposals(
            event.request_id, event.names, event.num_invalid, event.num_tokens, problem=event.problem
        )
        self.counts.num_proposals += len(event.names)
        self.counts.num_invalid_proposals += event.num_invalid
        self.counts.num_sprout_tokens += event.num_tokens

    def _elected(self, event: journal.Elected) -> None:
        node = self.tree.find(event.path)
        arms = node.arms
        arms.num_elections += 1
        if event.polled:
            del arms.proposals[arms.num_polls]
            arms.num_polls += 1
        arms.ballot = event.ballot
        if event.winner is None:
            arms.beta[0] += 1
            self.counts.num_failed_sprouts += 1
        else:
            arms.alpha[0] += 1
            self.tree.add(node, event.winner)
            self.counts.num_sprouts += 1
            self.counts.num_ballot_sprouts += not event.polled
        self.tree.touch(node)

    def _unk_closed(self, event: journal.UnkClosed) -> None:
        node = self.tree.find(event.path)
        node.arms.closed_in_round = self.round
        self.closed_for[event.path] = event.reason or NO_VALID_NAME
        self.tree.touch(node)

    def _walked(self, event: journal.Walked) -> None:
        self.in_flight.setdefault(event.step, {})[event.index] = event.path
        if self.grown is not None:
            place = self.drawn.get(event.path, 0)
            self.places.setdefault(event.step, {})[event.index] = place
            self.drawn[event.path] = place + 1
            self._take(event.path, 1)
        self.issued.append(self.ticket(event.step, event.index, event.path))
        self.counts.num_issued += 1

    def _abandoned(self, event: journal.Abandoned) -> None:
        self.abandoned[event.step] = self.abandoned.get(event.step, 0) + 1
        reason = event.reason or NO_VALID_NAME
        self.abandoned_for[reason] = self.abandoned_for.get(reason, 0) + 1
        self.counts.num_abandoned += 1

    def _walks_done(self, event: journal.WalksDone) -> None:
        self.num_walked = event.step + 1
        self.tree.start_step()

    def _credited(self, event: journal.Credited) -> None:
        leaf = self.tree.find(event.path)
        leaf.add_sample(event.ticket_id, event.question_hash, heldout=event.reward is None)
        self.counts.num_committed += 1
        if event.reward is None:
            self.counts.num_heldout += 1
        else:
            self.counts.sum_rewards += event.reward
        node: Node | None = leaf
        while node is not None:
            node.num_samples += 1
            if event.reward is not None and node.parent is not None:
                self._credit(node, event.reward)
            self.tree.touch(node)
            node = node.parent

    def _credit(self, node: Node, reward: int) -> None:
        assert node.parent is not None
        arms, arm = node.parent.arms, node.index
        self.policy.credit(arms, arm, reward)
        arms.count_trainable(arm)
        node.window = (node.window + (b"\1" if reward else b"\0"))[-self.policy.max_window :]
        if len(node.window) >= self.policy.min_window:
            self.testable.add(node)

    def _failed(self, event: journal.Failed) -> None:
        self.counts.num_failed[event.reason] = self.counts.num_failed.get(event.reason, 0) + 1

    def _step_committed(self, event: journal.StepCommitted) -> None:
        self.in_flight.pop(event.step, None)
        self.places.pop(event.step, None)
        self.num_committed = event.step + 1
        self.check_conservation()

    def _rows_drawn(self, event: journal.RowsDrawn) -> None:
        self.last_closed = RoundClosed(self.round, event.sample_ids, ())

    def _aged(self, event: journal.Aged) -> None:
        for node in (self.tree.root, *self.tree.nodes()):
            if node.arms is not None:
                self.policy.age(node.arms)
                self.tree.touch(node)

    def _reborn(self, event: journal.Reborn) -> None:
        node = self.tree.find(event.path)
        assert node.parent is not None and self.last_closed is not None
        statistic = math.inf if event.statistic is None else event.statistic
        rebirth = Rebirth(event.path, node.posterior, (event.alpha, event.beta), statistic, event.p_value)
        node.parent.arms.alpha[node.index], node.parent.arms.beta[node.index] = event.alpha, event.beta
        self.last_closed = dataclasses.replace(self.last_closed, reborn=(*self.last_closed.reborn, rebirth))
        self.counts.num_rebirths += 1
        self.tree.touch(node.parent)


_APPLY: dict[type, Callable[[TreeState, Any], None]] = {
    journal.RoundOpened: TreeState._round_opened,
    journal.Proposed: TreeState._proposed,
    journal.Elected: TreeState._elected,
    journal.UnkClosed: TreeState._unk_closed,
    journal.Walked: TreeState._walked,
    journal.Abandoned: TreeState._abandoned,
    journal.WalksDone: TreeState._walks_done,
    journal.Credited: TreeState._credited,
    journal.Failed: TreeState._failed,
    journal.StepCommitted: TreeState._step_committed,
    journal.RowsDrawn: TreeState._rows_drawn,
    journal.Aged: TreeState._aged,
    journal.Reborn: TreeState._reborn,
}


def replay(state: TreeState, segments: Iterable[bytes]) -> None:
    """Applies the events of segments, in order, to the state in which the first of them began.

    Raises RunDirError for a segment that is damaged or does not fit.
    """
    sequence, first = Sequence(state), True
    for segment in segments:
        event: journal.AnyEvent | None = None
        for event in journal.decode(segment):
            try:
                # The manager opens the first round when it is made.
                if not first or event != journal.RoundOpened(state.round, state.weights_version):
                    sequence.check(event)
                    state.apply(event)
            except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError, AssertionError) as error:
                raise _does_not_fit(event, repr(error)) from error
            first = False
        if not isinstance(event, journal.StepCommitted | journal.RoundOpened | None):
            raise _does_not_fit(event, "not a commit point, although a segment ends here")


def _does_not_fit(event: journal.AnyEvent, why: str) -> RunDirError:
    return RunDirError(
        f"the tree's journal does not fit the tree at {type(event).__name__} ({why[:300]}): a segment is missing or "
        "foreign, or tree.seed or tree.depth changed; resume with the files and settings that wrote it, or restore "
        "RUN/tree from a copy"
    )
