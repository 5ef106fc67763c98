"""The state as plain data, for people and for the figures of a run."""

from __future__ import annotations

from typing import Any

from bohdi_ray.tree.knowledge_tree import Node
from bohdi_ray.tree.state import TreeState


def describe(state: TreeState) -> dict[str, Any]:
    """The tree as nested mappings, with the round and the target's version it is at."""
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
