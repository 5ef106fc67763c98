"""The walks of one step, each from the root to a leaf (method, section 2); the result does not depend on the order in
which proposals arrive.

Every node has a queue, and walks pass it in ticket order. A walk goes on until it reaches a leaf or a node whose queue
is not empty; it stays at the head of a queue only while its election there lacks proposals. A child has one parent, so
arrivals at the child are in ticket order too; and what a walk sees at a node (children, counts, ballot) was left there
by the walks before it in this step. So neither timing nor the number of tasks in flight decides anything.

The manager owns one `StepWalks` at a time, and calls `resume` when proposals came. It decides; `state.py` changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from bohdi_ray.randomness import generator
from bohdi_ray.tree import elections
from bohdi_ray.tree.knowledge_tree import Node
from bohdi_ray.tree.record import journal
from bohdi_ray.tree.state import TreeState

USED_UP = "corpus_used_up"  # why a walk is abandoned


class _Walk:
    __slots__ = ("index", "node", "num_failures", "rng", "wants_child")

    def __init__(self, index: int, rng: np.random.Generator, node: Node):
        self.index = index
        self.rng = rng  # of all its draws, in the order of its path
        self.node = node
        self.wants_child = False  # `unk` won here; a walk that waited continues with its election, without a new draw
        self.num_failures = 0  # of its elections at this node


class StepWalks:
    def __init__(self, state: TreeState, step: int, emit: Callable[[journal.AnyEvent], None]):
        self._state = state
        self._step = step
        self._emit = emit  # journals and applies an event
        self._queues: dict[Node, deque[_Walk]] = {}  # of nodes whose head waits for proposals
        self._num_ended = 0
        self._in_flight: dict[Node, np.ndarray] = {}  # by node and arm
        for paths in state.in_flight.values():
            for path in paths.values():
                node = state.tree.root
                for name in path:
                    child = node.arms.by_name[name]
                    self._in_flight_at(node)[child.index] += 1
                    node = child

    @property
    def done(self) -> bool:
        return self._num_ended == self._state.config.meditation.walks_per_step

    def waiting(self) -> list[Node]:
        """The nodes whose next election needs proposals that are not there yet."""
        return list(self._queues)

    def start(self) -> None:
        state = self._state
        for index in range(state.config.meditation.walks_per_step):
            rng = generator(state.config.seed, state.round, self._step, index, "walk")
            self._descend(_Walk(index, rng, state.tree.root))

    def resume(self, node: Node) -> None:
        """Proposals arrived for `node`; continues the walks queued there as far as possible."""
        queue = self._queues.pop(node, None)
        while queue:
            self._descend(queue.popleft())
            if node in self._queues:  # the head waits again, for the next election; the others stay behind it
                self._queues[node].extend(queue)
                return

    def _descend(self, walk: _Walk) -> None:
        """Continues until the walk ends or waits."""
        while walk.node.arms is not None:
            queue = self._queues.get(walk.node)
            if queue is not None:
                queue.append(walk)
                return
            child = self._choose(walk)
            if child is None:
                return
            walk.node, walk.num_failures = child, 0
        self._num_ended += 1
        self._emit(journal.Walked(self._step, walk.index, walk.node.path))

    def _choose(self, walk: _Walk) -> Node | None:
        """The child to walk to next; None if the walk waits (it is queued) or was abandoned."""
        arms, scores = walk.node.arms, self._state.policy.scores
        while True:
            if self._state.grown is not None:
                return self._choose_where_any_is_left(walk)
            if not walk.wants_child:
                end = len(arms.children) + 1
                start = 0 if self._unk_is_open(walk.node) else 1
                if start == end:
                    self._num_ended += 1
                    reason = self._state.closed_for.get(walk.node.path, elections.NO_VALID_NAME)
                    self._emit(journal.Abandoned(self._step, walk.index, reason))
                    return None
                alpha, beta, in_flight = arms.alpha[start:end], arms.beta[start:end], self._in_flight_at(walk.node)
                arm = start + int(scores(walk.rng, alpha, beta, arms.plays(start), in_flight[start:end]).argmax())
                if arm > 0:
                    in_flight[arm] += 1
                    return arms.children[arm - 1]
                walk.wants_child = True
            event = self._elect(walk)
            if event is None:
                return None
            walk.wants_child = False
            if event.winner is not None:
                self._in_flight_at(walk.node)[len(arms.children)] += 1
                return arms.children[-1]

    def _choose_where_any_is_left(self, walk: _Walk) -> Node | None:
        """In a grown tree: one of the children that have tickets left, or None if the walk was abandoned."""
        arms = walk.node.arms
        live = np.array([arm for arm, child in enumerate(arms.children, 1) if child.left and child.left > 0], np.intp)
        if not len(live):
            self._num_ended += 1
            self._emit(journal.Abandoned(self._step, walk.index, USED_UP))
            return None
        in_flight, plays = self._in_flight_at(walk.node), arms.plays(0)
        scores = self._state.policy.scores(walk.rng, arms.alpha[live], arms.beta[live], plays[live], in_flight[live])
        arm = int(live[scores.argmax()])
        in_flight[arm] += 1
        return arms.children[arm - 1]

    def _in_flight_at(self, node: Node) -> np.ndarray:
        """Walks that went to each arm of the node and have no reward yet, shape [capacity]: those of earlier steps that
        are not committed, and this step's so far, including abandoned ones, because when they end depends on timing."""
        counts, capacity = self._in_flight.get(node), len(node.arms.alpha)
        if counts is None or len(counts) < capacity:
            old, counts = counts, np.zeros(capacity, np.int64)
            if old is not None:
                counts[: len(old)] = old
            self._in_flight[node] = counts
        return counts

    def _unk_is_open(self, node: Node) -> bool:
        arms, limits = node.arms, self._state.config.tree.max_children
        if arms.closed_in_round == self._state.round:
            return False
        return limits is None or len(arms.children) < limits[len(node.path)]

    def _elect(self, walk: _Walk) -> journal.Elected | None:
        """Holds the node's next election; None if it lacks proposals, so that the walk now waits for them."""
        config, node = self._state.config.sprout, walk.node
        event = elections.hold(self._state.tree, node, self._state.config.seed, config.reuse_ballots)
        if event is None:
            self._queues[node] = deque([walk])
            return None
        problem = elections.problem(node) if event.winner is None else ""
        self._emit(event)
        if event.winner is None:
            walk.num_failures += 1
            if walk.num_failures >= config.max_failures:
                self._emit(journal.UnkClosed(event.path, problem))
        return event
