"""The state as an Arrow IPC file and back: one row per node above the leaves, level by level.

A row is a `Family` as MessagePack; what is not of a node is in the schema's metadata. `copy_state` takes the rows as
bytes, which stay as they are while the manager goes on. `write` makes a file of them in its own time, in another thread
if wanted; batch by batch, so that others get in every few milliseconds.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from bohdi_ray.errors import RunDirError
from bohdi_ray.records import DomainPath, Proposals, Ticket
from bohdi_ray.tree.knowledge_tree import KnowledgeTree, Node
from bohdi_ray.tree.messages import Counts, RoundClosed
from bohdi_ray.tree.state import TreeState

# 1 was one MessagePack object; 2 knew no reasons of elections that failed; 3 had a row and columns per node.
VERSION = 4
KEY, PROGRESS = b"bohdi_ray.tree", b"bohdi_ray.progress"
SCHEMA = pa.schema([pa.field("family", pa.binary(), nullable=False)])
BATCH_BYTES = 1 << 22

# What reading a file can raise that is no snapshot, or a damaged one with a checksum that fits.
_DAMAGE = (
    *(pa.ArrowException, msgspec.MsgspecError, OSError, LookupError, ValueError, TypeError, AttributeError),
    *(ArithmeticError, AssertionError, MemoryError, RecursionError),
)


class Progress(msgspec.Struct):
    """All of a state beside its tree, by the state's own names."""

    round: int
    weights_version: int
    num_walked: int
    num_committed: int
    in_flight: dict[int, dict[int, DomainPath]]
    issued: list[Ticket]
    num_issued_before: int
    abandoned: dict[int, int]
    abandoned_for: dict[str, int]
    closed_for: dict[DomainPath, str]
    last_closed: RoundClosed | None
    counts: Counts
    drawn: dict[DomainPath, int] = {}
    places: dict[int, dict[int, int]] = {}


class Family(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A node above the leaves: what its arms hold, by their own names, and its children in order of birth."""

    alpha: bytes  # [1 + children] of 8 bytes each, like the next two
    beta: bytes
    trainable: bytes
    ballot: dict[str, int]
    num_elections: int
    num_polls: int
    closed_in_round: int
    memory: bytes
    proposals: dict[int, Proposals]
    # Name, num_samples, window, trainable, heldout, questions.
    children: list[tuple[str, int, bytes, bytes, bytes, bytes]]


class _Header(msgspec.Struct):
    version: int
    depth: int
    policy: str  # its class: what a node's memory means is that policy's affair
    digest: str


_ARRAYS = Family.__struct_fields__[:3]
_PLAIN = Family.__struct_fields__[3:-1]
_encode = msgspec.msgpack.Encoder().encode
_family = msgspec.msgpack.Decoder(Family).decode


@dataclass(frozen=True, slots=True)
class StateCopy:
    header: bytes
    progress: bytes
    families: list[bytes]


# Writing.


def copy_state(state: TreeState) -> StateCopy:
    """The state as it is at a commit point."""
    inner = [state.tree.root]
    for node in inner:  # grows while it is walked: level by level
        inner += _inner(node.arms.children)
    header = _Header(VERSION, state.tree.depth, type(state.policy).__name__, state.digest())
    progress = Progress(**{name: getattr(state, name) for name in Progress.__struct_fields__})
    return StateCopy(msgspec.json.encode(header), _encode(progress), [_packed(node) for node in inner])


def _inner(children: list[Node]) -> list[Node]:
    return children if children and children[0].arms is not None else []


def _packed(node: Node) -> bytes:
    arms = node.arms
    arrays = [getattr(arms, name)[: len(arms.children) + 1].tobytes() for name in _ARRAYS]
    children = [(c.name, c.num_samples, c.window, c.trainable, c.heldout, c.questions) for c in arms.children]
    return _encode([*arrays, *(getattr(arms, name) for name in _PLAIN), children])


def write(copy: StateCopy, sink: Any) -> None:
    """Writes the copy to `sink`, a path, a pyarrow stream or a Python file; buffers are compressed with LZ4."""
    schema = SCHEMA.with_metadata({KEY: copy.header, PROGRESS: copy.progress})
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        for rows in _batches(copy.families):
            writer.write_batch(pa.record_batch([pa.array(rows, pa.binary())], schema=SCHEMA))


def _batches(families: list[bytes]) -> Iterator[list[bytes]]:
    rows, num_bytes = [], 0
    for family in families:
        rows.append(family)
        num_bytes += len(family)
        if num_bytes >= BATCH_BYTES:
            yield rows
            rows, num_bytes = [], 0
    if rows:
        yield rows


# Reading.


def read_into(state: TreeState, source: Any) -> None:
    """Replaces everything in a fresh `state`.

    `source`: the file's bytes, a pyarrow buffer or an open file. Raises RunDirError for a file that is damaged, of
    another version, or of a tree or policy that does not fit; afterwards `state` must not be used. Cyclic garbage
    collection is switched off meanwhile, because with millions of new objects it would take a third of the time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        _read_into(state, source)
    finally:
        if collecting:
            gc.enable()


def _read_into(state: TreeState, source: Any) -> None:
    try:
        reader = pa.ipc.open_file(source)
        metadata = reader.schema.metadata or {}
        header = msgspec.json.decode(metadata[KEY], type=_Header)
        _check(header, state, reader.schema)
        state.tree = KnowledgeTree(header.depth)
        state.testable.clear()
        inner, row = [state.tree.root], 0
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            batch.validate(full=True)
            for data in batch["family"]:
                inner += _inner(_read_family(state, inner[row], _family(data.as_buffer())))
                row += 1
        if row != len(inner):
            raise ValueError(f"it holds {row} of {len(inner)} families")
        state.tree.root.num_samples = sum(child.num_samples for child in state.tree.root.arms.children)
        state.tree.start_step()
        progress = msgspec.msgpack.decode(metadata[PROGRESS], type=Progress)
        for name in Progress.__struct_fields__:
            setattr(state, name, getattr(progress, name))
        state.count_left()
        digest = state.digest()
    except _DAMAGE as error:
        raise RunDirError(
            f"a snapshot of the tree cannot be read ({error}); remove it, the journal is sufficient"
        ) from error
    if digest != header.digest:
        raise RunDirError("a snapshot of the tree does not match its digest; remove it, the journal is sufficient")


def _check(header: _Header, state: TreeState, schema: pa.Schema) -> None:
    if header.version != VERSION:
        raise RunDirError(
            f"a snapshot of the tree has version {header.version}, this program reads version {VERSION}; remove it, "
            "the journal is sufficient"
        )
    policy = type(state.policy).__name__
    if (header.depth, header.policy) != (state.tree.depth, policy):
        raise RunDirError(
            f"a snapshot of a tree of depth {header.depth} under {header.policy} does not fit tree.depth = "
            f"{state.tree.depth} and {policy}; continue with the settings that wrote it"
        )
    if not schema.equals(SCHEMA):
        raise ValueError("it has unexpected columns")


def _read_family(state: TreeState, node: Node, family: Family) -> list[Node]:
    """Adds the family's children to the tree and returns them."""
    children, arms = state.tree.add_all(node, [child[0] for child in family.children]), node.arms
    end = len(children) + 1
    for name in _ARRAYS:
        array = getattr(arms, name)
        array[:end] = np.frombuffer(getattr(family, name), array.dtype).reshape(end)
    for name in _PLAIN:
        setattr(arms, name, getattr(family, name))
    min_window = state.policy.min_window
    for child, (_, num_samples, window, trainable, heldout, questions) in zip(children, family.children, strict=True):
        child.num_samples, child.window = num_samples, window
        child.trainable, child.heldout, child.questions = trainable, heldout, questions
        if len(window) >= min_window:
            state.testable.add(child)
    return children
