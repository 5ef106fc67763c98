"""A copy of the tree manager's whole state, taken in a moment, that stays as it is while the manager goes on.

What never changes is shared: names, packed samples, windows. What is changed in place is copied: the posteriors. So the
copy of a tree of a million leaves takes tenths of a second and a few dozen bytes per leaf; `snapshot.py` turns it into
a file in its own time, in another thread if wanted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from bohdi_ray.records import DomainPath, Proposals
from bohdi_ray.tree.knowledge_tree import Arms, Node
from bohdi_ray.tree.messages import Counts, Rebirth, RoundClosed
from bohdi_ray.tree.state import TreeState


class Progress(msgspec.Struct):
    """All of a state beside its tree, as JSON can hold it."""

    round: int
    weights_version: int
    num_walked: int
    num_committed: int
    in_flight: dict[int, dict[int, DomainPath]]
    issued: list[tuple[int, int, DomainPath]]  # step, index, path
    num_issued_before: int
    abandoned: dict[int, int]
    abandoned_for: dict[str, int]
    closed_for: list[tuple[DomainPath, str]]
    last_closed: RoundClosed | None  # without what was reborn
    infinite: list[bool]  # by rebirth: whether its statistic is infinite, for which JSON has no number
    reborn: list[Rebirth]
    counts: Counts


@dataclass(frozen=True, slots=True)
class Unk:
    """What a node above the leaves has beside its children."""

    alpha: float
    beta: float
    ballot: dict[str, int]
    num_elections: int
    num_polls: int
    closed_in_round: int
    memory: bytes
    proposals: dict[int, Proposals]


@dataclass(frozen=True, slots=True)
class Siblings:
    """The children of one node above the leaves, in order of birth; n of them."""

    parent: Node  # for the children's names, which never change; it may have more of them by now
    unk: Unk  # of the parent itself
    alpha: np.ndarray  # [n], like the next three: the arms of the children, and what is below them
    beta: np.ndarray
    num_trainable: np.ndarray
    num_samples: list[int]
    windows: list[bytes]
    trainable: list[bytes]
    heldout: list[bytes]
    questions: list[bytes]

    @property
    def names(self) -> list[str]:
        return [child.name for child in self.parent.arms.children[: len(self.windows)]]


@dataclass(frozen=True, slots=True)
class StateCopy:
    depth: int
    policy: str  # its class: what a node's memory means is that policy's affair
    digest: str
    progress: bytes  # a `Progress` as JSON
    num_nodes: int  # without the root
    num_samples: int
    groups: list[Siblings]  # the root's children first, then level by level, of every node above the leaves


def copy_state(state: TreeState) -> StateCopy:
    """The state as it is at a commit point."""
    inner = [state.tree.root]
    for node in inner:  # grows while it is walked: level by level
        if node.arms.children and node.arms.children[0].arms is not None:
            inner += node.arms.children
    return StateCopy(
        depth=state.tree.depth,
        policy=type(state.policy).__name__,
        digest=state.digest(),
        progress=msgspec.json.encode(_progress(state)),
        num_nodes=state.tree.num_nodes,
        num_samples=state.tree.root.num_samples,
        groups=[_siblings(node) for node in inner],
    )


def _siblings(node: Node) -> Siblings:
    arms, children = node.arms, node.arms.children
    end = len(children) + 1
    return Siblings(
        parent=node,
        unk=_unk(arms),
        alpha=arms.alpha[1:end].copy(),
        beta=arms.beta[1:end].copy(),
        num_trainable=arms.trainable[1:end].copy(),
        num_samples=[child.num_samples for child in children],
        windows=[child.window for child in children],
        trainable=[child.trainable for child in children],
        heldout=[child.heldout for child in children],
        questions=[child.questions for child in children],
    )


def _unk(arms: Arms) -> Unk:
    return Unk(
        float(arms.alpha[0]),
        float(arms.beta[0]),
        dict(arms.ballot),
        arms.num_elections,
        arms.num_polls,
        arms.closed_in_round,
        arms.memory,
        dict(arms.proposals),
    )


def _progress(state: TreeState) -> Progress:
    closed = state.last_closed
    return Progress(
        round=state.round,
        weights_version=state.weights_version,
        num_walked=state.num_walked,
        num_committed=state.num_committed,
        in_flight=state.in_flight,
        issued=[(ticket.step, ticket.index, ticket.path) for ticket in state.issued],
        num_issued_before=state.num_issued_before,
        abandoned=state.abandoned,
        abandoned_for=state.abandoned_for,
        closed_for=list(state.closed_for.items()),
        last_closed=closed and replace(closed, reborn=()),
        infinite=[math.isinf(rebirth.statistic) for rebirth in closed.reborn] if closed else [],
        reborn=[replace(r, statistic=0.0) if math.isinf(r.statistic) else r for r in closed.reborn] if closed else [],
        counts=state.counts,
    )


def restore_progress(state: TreeState, data: bytes) -> None:
    """Puts what `StateCopy.progress` holds into `state`. Raises msgspec's errors for other data."""
    saved = msgspec.json.decode(data, type=Progress)
    state.round, state.weights_version = saved.round, saved.weights_version
    state.num_walked, state.num_committed = saved.num_walked, saved.num_committed
    state.in_flight, state.num_issued_before = saved.in_flight, saved.num_issued_before
    state.issued = [state.ticket(*fields) for fields in saved.issued]
    state.abandoned, state.counts = saved.abandoned, saved.counts
    state.abandoned_for, state.closed_for = saved.abandoned_for, dict(saved.closed_for)
    reborn = tuple(
        replace(rebirth, statistic=math.inf) if infinite else rebirth
        for rebirth, infinite in zip(saved.reborn, saved.infinite, strict=True)
    )
    state.last_closed = saved.last_closed and replace(saved.last_closed, reborn=reborn)
