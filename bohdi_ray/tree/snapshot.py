"""The whole state as bytes and back, and as plain data for people. Cost grows with the tree: once a round at most."""

from __future__ import annotations

from typing import Any

import msgspec

from bohdi_ray.errors import RunDirError
from bohdi_ray.records import DomainPath, Proposals
from bohdi_ray.tree.knowledge_tree import KnowledgeTree, Node
from bohdi_ray.tree.messages import Counts, RoundClosed
from bohdi_ray.tree.state import TreeState

VERSION = 1


class _Arms(msgspec.Struct, array_like=True):
    alpha: float  # of `unk`
    beta: float
    ballot: dict[str, int]
    num_elections: int
    num_polls: int
    proposals: dict[int, Proposals]
    closed_in_round: int
    memory: bytes


class _Node(msgspec.Struct, array_like=True):
    name: str
    parent: int  # position in the list of nodes; the root is 0
    alpha: float
    beta: float
    window: bytes
    num_samples: int
    num_trainable: int
    arms: _Arms | None
    trainable: bytes = b""
    heldout: bytes = b""
    questions: bytes = b""


class _Snapshot(msgspec.Struct):
    version: int
    depth: int
    round: int
    weights_version: int
    num_walked: int
    num_committed: int
    in_flight: dict[int, dict[int, DomainPath]]
    issued: list[tuple[int, int, DomainPath]]
    num_issued_before: int
    abandoned: dict[int, int]
    last_closed: RoundClosed | None
    counts: Counts
    nodes: list[_Node]  # parents before children


def encode(state: TreeState) -> bytes:
    nodes = [state.tree.root, *state.tree.nodes()]
    position = {node: index for index, node in enumerate(nodes)}
    return msgspec.msgpack.encode(
        _Snapshot(
            version=VERSION,
            depth=state.tree.depth,
            round=state.round,
            weights_version=state.weights_version,
            num_walked=state.num_walked,
            num_committed=state.num_committed,
            in_flight=state.in_flight,
            issued=[(ticket.step, ticket.index, ticket.path) for ticket in state.issued],
            num_issued_before=state.num_issued_before,
            abandoned=state.abandoned,
            last_closed=state.last_closed,
            counts=state.counts,
            nodes=[_from_node(node, position) for node in nodes],
        )
    )


def _from_node(node: Node, position: dict[Node, int]) -> _Node:
    arms = node.arms
    alpha, beta = node.posterior
    return _Node(
        name=node.name,
        parent=0 if node.parent is None else position[node.parent],
        alpha=alpha,
        beta=beta,
        window=node.window,
        num_samples=node.num_samples,
        num_trainable=node.num_trainable,
        arms=None
        if arms is None
        else _Arms(
            float(arms.alpha[0]),
            float(arms.beta[0]),
            arms.ballot,
            arms.num_elections,
            arms.num_polls,
            arms.proposals,
            arms.closed_in_round,
            arms.memory,
        ),
        trainable=node.trainable,
        heldout=node.heldout,
        questions=node.questions,
    )


def decode_into(state: TreeState, data: bytes) -> None:
    """Replaces everything in a fresh `state`. Raises RunDirError for bytes that are no snapshot of such a tree."""
    try:
        saved = msgspec.msgpack.decode(data, type=_Snapshot)
    except msgspec.MsgspecError as error:
        raise RunDirError(
            f"a snapshot of the tree cannot be read ({error}); remove it, the journal is enough"
        ) from error
    if (saved.version, saved.depth) != (VERSION, state.tree.depth):
        raise RunDirError(
            f"a snapshot of version {saved.version} and depth {saved.depth} does not fit version {VERSION} and "
            f"tree.depth = {state.tree.depth}; resume with the settings that wrote it"
        )
    state.round, state.weights_version = saved.round, saved.weights_version
    state.num_walked, state.num_committed = saved.num_walked, saved.num_committed
    state.in_flight, state.num_issued_before = saved.in_flight, saved.num_issued_before
    state.issued = [state.ticket(*fields) for fields in saved.issued]
    state.abandoned, state.last_closed, state.counts = saved.abandoned, saved.last_closed, saved.counts
    state.tree = KnowledgeTree(saved.depth)
    state.testable.clear()
    nodes: list[Node] = []
    for record in saved.nodes:
        node = state.tree.add(nodes[record.parent], record.name) if nodes else state.tree.root
        _into_node(node, record)
        if len(node.window) >= state.policy.min_window:
            state.testable.add(node)
        nodes.append(node)
    state.tree.start_step()


def _into_node(node: Node, record: _Node) -> None:
    node.window, node.num_samples = record.window, record.num_samples
    if node.parent is not None:
        arms = node.parent.arms
        arms.alpha[node.index], arms.beta[node.index] = record.alpha, record.beta
        arms.trainable[node.index] = record.num_trainable
    if record.arms is not None:
        saved = record.arms
        node.arms.alpha[0], node.arms.beta[0] = saved.alpha, saved.beta
        node.arms.ballot, node.arms.proposals = saved.ballot, saved.proposals
        node.arms.num_elections, node.arms.num_polls = saved.num_elections, saved.num_polls
        node.arms.closed_in_round, node.arms.memory = saved.closed_in_round, saved.memory
    node.trainable, node.heldout, node.questions = record.trainable, record.heldout, record.questions


def describe(state: TreeState) -> dict[str, Any]:
    return {"round": state.round, "weights_version": state.weights_version, **_describe_node(state.tree.root)}


def _describe_node(node: Node) -> dict[str, Any]:
    alpha, beta = node.posterior
    plain: dict[str, Any] = {
        "name": node.name,
        "alpha": alpha,
        "beta": beta,
        "num_samples": node.num_samples,
        "trainable": node.num_trainable,
        "window": list(node.window),
    }
    if node.arms is not None:
        arms = node.arms
        plain["unk"] = {"alpha": float(arms.alpha[0]), "beta": float(arms.beta[0])}
        plain["ballot"] = dict(arms.ballot)
        plain["children"] = [_describe_node(child) for child in arms.children]
    else:
        plain["children"] = []
        plain["unk"] = None
    return plain
