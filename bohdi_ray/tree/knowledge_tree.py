"""The knowledge tree: nodes, their arms, the samples harvested below them, and an incremental digest of all that.

Only `state.py` changes a tree, by applying events; walks and draws read it. It knows nothing of rounds, tickets or
requests. A leaf costs a few hundred bytes; a node's posteriors are in its parent's arrays, so that one call of numpy
scores all arms of a node. For the same reason they belong to the parent's part in the digest: a policy may change all
arms of a node when one of them is credited.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from bohdi_ray.languages.names import name_key
from bohdi_ray.records import DomainPath, Proposals, pack_ticket_id, ticket_id, unpack_ticket_id
from bohdi_ray.tree.node_hash import hash_of

DIGEST_MODULUS = 1 << 128
ITEM = 8  # bytes of a packed id and of a question's key


class Arms:
    """The data of a node above the leaf level: one arm per child and, at index 0, `unk`. Arm i + 1 belongs to child
    i."""

    __slots__ = (
        "_live",
        "alpha",
        "ballot",
        "beta",
        "by_name",
        "children",
        "closed_in_round",
        "memory",
        "num_elections",
        "num_polls",
        "proposals",
        "trainable",
    )

    def __init__(self) -> None:
        self.alpha = np.ones(4)  # [capacity], used up to len(children) + 1
        self.beta = np.ones(4)
        self.trainable = np.zeros(4, np.int64)  # trainable samples below each arm's child: the rewards it was given
        self.children: list[Node] = []
        self.by_name: dict[str, Node] = {}
        self.ballot: dict[str, int] = {}  # votes of names that lost an election here
        self.num_elections = 0  # held, with or without new proposals
        self.num_polls = 0  # held with new proposals; the number of the next one
        self.proposals: dict[int, Proposals] = {}  # arrived, not yet voted on, by poll
        self.closed_in_round = -1  # the round in which `unk` was closed for repeated failure
        self.memory = b""  # what the policy keeps here besides the posteriors
        self._live: np.ndarray | None = None

    def add(self, children: list[Node]) -> None:
        self.children += children
        self.by_name.update((child.name, child) for child in children)
        more = len(self.children) + 1 - len(self.alpha)
        if more > 0:
            more = max(more, len(self.alpha))
            self.alpha = np.concatenate((self.alpha, np.ones(more)))
            self.beta = np.concatenate((self.beta, np.ones(more)))
            self.trainable = np.concatenate((self.trainable, np.zeros(more, np.int64)))

    def plays(self, start: int) -> np.ndarray:
        """Number of rewards that each arm has received, from arm `start` on; for `unk`, the number of elections
        held."""
        counts = self.trainable[: len(self.children) + 1].copy()
        counts[0] = self.num_elections
        return counts[start:]

    def trainable_arms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """(alpha, beta, plays, indices) of the children with trainable samples; indices None means all children."""
        end = len(self.children) + 1
        alpha, beta, plays = self.alpha[1:end], self.beta[1:end], self.trainable[1:end]
        if self._live is None:
            self._live = np.flatnonzero(plays)
        if len(self._live) == end - 1:
            return alpha, beta, plays, None
        return alpha[self._live], beta[self._live], plays[self._live], self._live

    def count_trainable(self, arm: int) -> None:
        if self.trainable[arm] == 0:
            self._live = None
        self.trainable[arm] += 1


class Node:
    """A domain. `arms` is None for a leaf.

    What a leaf has yielded is in packed, immutable bytes, 8 per item: a copy of the tree's state holds references to
    them, and a sample costs 16 bytes.
    """

    __slots__ = (
        "arms",
        "hash",
        "heldout",
        "index",
        "left",
        "name",
        "num_samples",
        "parent",
        "questions",
        "trainable",
        "window",
    )

    def __init__(self, name: str, parent: Node | None, index: int, leaf: bool):
        self.name = name
        self.parent = parent
        self.index = index  # among its parent's arms: position among the children + 1
        self.arms: Arms = None if leaf else Arms()  # type: ignore[assignment]  # callers know the level they are at
        self.window = b""  # the last w rewards, one byte each
        self.num_samples = 0  # harvested below, held-out ones included
        self.left: int | None = None  # tickets that may still be issued below it; None: any number
        self.trainable = b""  # of a leaf: packed ids of its trainable samples, in order of commit
        self.heldout = b""  # the same of its held-out ones
        self.questions = b""  # keys of all its questions, in order of commit
        self.hash = 0  # this node's part in the tree's digest

    @property
    def path(self) -> DomainPath:
        names = []
        node = self
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        return tuple(reversed(names))

    @property
    def posterior(self) -> tuple[float, float]:
        """(alpha, beta); Beta(1, 1) for the root, which is not an arm."""
        if self.parent is None:
            return 1.0, 1.0
        arms = self.parent.arms
        return float(arms.alpha[self.index]), float(arms.beta[self.index])

    @property
    def num_trainable(self) -> int:
        """Number of trainable samples below the node."""
        if self.parent is None:
            return int(self.arms.trainable.sum())
        return int(self.parent.arms.trainable[self.index])

    def trainable_id(self, index: int) -> str:
        """Id of the leaf's trainable sample `index`, in order of commit."""
        packed = self.trainable[ITEM * index : ITEM * index + ITEM]
        if len(packed) != ITEM:
            raise IndexError(f"{self.path} has {len(self.trainable) // ITEM} trainable samples, no sample {index}")
        return unpack_ticket_id(int.from_bytes(packed, "little"))

    def trainable_ids(self) -> tuple[str, ...]:
        """Ids of the leaf's trainable samples, in order of commit; () for a node above the leaves."""
        return unpack_ids(self.trainable)

    def trainable_ids_of(self, round: int) -> list[str]:
        """The ids of one round's trainable samples; the round must be the newest that the leaf has."""
        first = ticket_id(round, 0, 0)
        found: list[str] = []
        for index in reversed(range(len(self.trainable) // ITEM)):
            if (one := self.trainable_id(index)) < first:
                break
            found.append(one)
        return found[::-1]

    def heldout_ids(self) -> tuple[str, ...]:
        """Ids of the leaf's held-out samples, in order of commit."""
        return unpack_ids(self.heldout)

    def has_question(self, question_hash: str) -> bool:
        """Whether the leaf has a sample with this question; a false positive has probability 2^-64 per question
        there."""
        if not self.questions:
            return False
        key = question_key(question_hash)
        at = self.questions.find(key)
        while at % ITEM and at > 0:  # found across two keys
            at = self.questions.find(key, at + 1)
        return at >= 0

    def add_sample(self, ticket_id: str, question_hash: str, heldout: bool) -> None:
        """Adds a sample to the leaf. The caller updates its count and the nodes above."""
        packed = pack_ticket_id(ticket_id).to_bytes(ITEM, "little")
        self.questions += question_key(question_hash)
        if heldout:
            self.heldout += packed
        else:
            self.trainable += packed


def question_key(question_hash: str) -> bytes:
    """What a leaf stores of a question: 8 bytes derived from its hash, whatever text the hash is."""
    return hashlib.blake2b(question_hash.encode(), digest_size=ITEM).digest()


def pack_ids(ticket_ids: Iterable[str]) -> bytes:
    """Ids in the format stored at a leaf: unsigned 64-bit integers, little-endian. Raises ValueError as
    `pack_ticket_id` does."""
    return b"".join(pack_ticket_id(text).to_bytes(ITEM, "little") for text in ticket_ids)


def unpack_ids(packed: bytes) -> tuple[str, ...]:
    return tuple(map(unpack_ticket_id, np.frombuffer(packed, "<u8").tolist()))


class KnowledgeTree:
    def __init__(self, depth: int):
        self.depth = depth
        self.root = Node("", None, 0, leaf=False)
        self.num_leaves = 0
        self.num_nodes = 0  # without the root
        self._names: set[str] = set()  # as `name_key` has them: two spellings of one name are one
        self._new_names: set[str] = set()  # given since the step began; not yet taken for other nodes
        self._changed: set[Node] = {self.root}
        self._digest = 0

    def find(self, path: DomainPath) -> Node:
        """The node at `path`. Raises KeyError if there is none."""
        node = self.root
        for name in path:
            if node.arms is None:
                raise KeyError(path)
            node = node.arms.by_name[name]
        return node

    def add(self, parent: Node, name: str) -> Node:
        return self.add_all(parent, (name,))[0]

    def add_all(self, parent: Node, names: Sequence[str]) -> list[Node]:
        """Adds children to one node, in this order; it must not have children with these names yet."""
        leaf = len(parent.path) + 1 == self.depth
        start = len(parent.arms.children) + 1
        children = [Node(name, parent, index, leaf) for index, name in enumerate(names, start)]
        parent.arms.add(children)
        self.num_nodes += len(children)
        self.num_leaves += len(children) if leaf else 0
        new = [key for key in map(name_key, names) if key not in self._names]
        self._names.update(new)
        self._new_names.update(new)
        self._changed.update(children)
        self._changed.add(parent)
        return children

    def start_step(self) -> None:
        """From here on the names of all existing nodes count as taken everywhere."""
        self._new_names.clear()

    def is_free(self, name: str, parent: Node) -> bool:
        """Whether a new child of `parent` may have this name.

        The name must not have existed anywhere when the step began, and must not be the name of a sibling or an
        ancestor now. So one step may give the same name at two nodes, because which of them came first would depend on
        timing.
        """
        key = name_key(name)
        if key not in self._names:
            return True
        if key not in self._new_names or any(name_key(child.name) == key for child in parent.arms.children):
            return False
        return all(name_key(above) != key for above in parent.path)

    def touch(self, node: Node) -> None:
        """Marks `node` as changed for the digest, and with it the posteriors and memory of its own arms."""
        self._changed.add(node)

    def nodes(self) -> Iterator[Node]:
        """All nodes but the root, level by level; a node's children in order of birth."""
        level = [self.root]
        while level:
            level = [child for node in level if node.arms is not None for child in node.arms.children]
            yield from level

    def domains_by_level(self) -> tuple[int, ...]:
        """Number of nodes at each level below the root; `depth` numbers."""
        level, counts = [self.root], []
        for depth in range(1, self.depth + 1):
            counts.append(sum(len(node.arms.children) for node in level))
            level = [child for node in level for child in node.arms.children] if depth < self.depth else []
        return tuple(counts)

    def digest(self) -> int:
        """A 128-bit sum over the nodes' hashes: the order of changes does not matter, unchanged nodes cost nothing."""
        for node in self._changed:
            new = hash_of(node)
            self._digest = (self._digest - node.hash + new) % DIGEST_MODULUS
            node.hash = new
        self._changed.clear()
        return self._digest
