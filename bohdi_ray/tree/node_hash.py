"""The hash of one node; the tree's digest is the sum over all. Strings here key every digest and never change."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from bohdi_ray.tree.knowledge_tree import Node

_pack = msgspec.msgpack.Encoder().encode


def hash_of(node: Node) -> int:
    """The hash of a node's data, except its own posterior, which is in its parent's hash, and proposals that wait for
    their election, because their arrival depends on timing."""
    arms = node.arms
    if arms is None:
        own: tuple = (node.trainable, node.heldout, node.questions)
    else:
        end = len(arms.children) + 1
        own = (
            arms.alpha[:end].tobytes(),
            arms.beta[:end].tobytes(),
            sorted(arms.ballot.items()),
            arms.num_elections,
            arms.num_polls,
            arms.closed_in_round,
            arms.memory,
        )
    content = (node.path, node.window, node.num_samples, node.num_trainable, own)
    return int.from_bytes(hashlib.blake2b(_pack(content), digest_size=16).digest(), "little")
