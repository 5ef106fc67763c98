"""The state as an Arrow IPC file and back: one row per node, parents before children, siblings side by side.

Written from a `StateCopy`, so that the manager need not wait; batch by batch, so that a thread that writes lets others
in every few milliseconds. Any Arrow reader can look into it: ids are `pack_ticket_id`'s, questions the keys of
`question_key`. What is not of a node is in the schema's metadata, as JSON.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from bohdi_ray.errors import RunDirError
from bohdi_ray.records import Proposals
from bohdi_ray.tree.knowledge_tree import ITEM, KnowledgeTree, Node
from bohdi_ray.tree.record.state_copy import Siblings, StateCopy, Unk, restore_progress
from bohdi_ray.tree.state import TreeState

VERSION = 3  # 1 was one MessagePack object; 2 knew no reasons of elections that failed
KEY = b"bohdi_ray.tree"
ROWS_PER_BATCH = 16_384

PROPOSALS = pa.struct(
    [
        pa.field("poll", pa.int32(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("names", pa.list_(pa.string()), nullable=False),
        pa.field("num_invalid", pa.int64(), nullable=False),
        pa.field("num_tokens", pa.int64(), nullable=False),
        pa.field("problem", pa.string(), nullable=False),
    ]
)
UNK = pa.struct(
    [
        pa.field("alpha", pa.float64(), nullable=False),
        pa.field("beta", pa.float64(), nullable=False),
        pa.field("ballot", pa.map_(pa.string(), pa.int64()), nullable=False),
        pa.field("num_elections", pa.int64(), nullable=False),
        pa.field("num_polls", pa.int64(), nullable=False),
        pa.field("closed_in_round", pa.int64(), nullable=False),
        pa.field("memory", pa.binary(), nullable=False),
        pa.field("proposals", pa.list_(PROPOSALS), nullable=False),
    ]
)
PACKED = pa.list_(pa.uint64())
SCHEMA = pa.schema(
    [
        pa.field("parent", pa.int32(), nullable=False),  # its row; -1 for the root, which is row 0
        pa.field("name", pa.string(), nullable=False),
        pa.field("alpha", pa.float64(), nullable=False),
        pa.field("beta", pa.float64(), nullable=False),
        pa.field("num_samples", pa.int64(), nullable=False),
        pa.field("num_trainable", pa.int64(), nullable=False),
        pa.field("window", pa.binary(), nullable=False),
        pa.field("trainable", PACKED, nullable=False),
        pa.field("heldout", PACKED, nullable=False),
        pa.field("questions", PACKED, nullable=False),
        pa.field("unk", UNK),  # null for a leaf
    ]
)


# What reading a file can raise that is no snapshot, or a damaged one with a checksum that fits.
_DAMAGE = (
    *(pa.ArrowException, msgspec.MsgspecError, OSError, LookupError, ValueError, TypeError, AttributeError),
    *(ArithmeticError, AssertionError, MemoryError, RecursionError),
)


class _Header(msgspec.Struct):
    version: int
    depth: int
    policy: str
    digest: str
    progress: msgspec.Raw


# Writing.


def write(copy: StateCopy, sink: Any) -> None:
    """Writes the copy to `sink`, a path, a pyarrow stream or a Python file; buffers are compressed with LZ4."""
    header = _Header(VERSION, copy.depth, copy.policy, copy.digest, msgspec.Raw(copy.progress))
    schema = SCHEMA.with_metadata({KEY: msgspec.json.encode(header)})
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        for batch in _batches(copy):
            writer.write_batch(batch)


def _batches(copy: StateCopy) -> Iterator[pa.RecordBatch]:
    root = Node("", None, 0, leaf=True)
    above = Node("", None, 0, leaf=False)
    above.arms.add([root])
    one, none = np.ones(1), [b""]
    num_trainable = copy.groups[0].num_trainable.sum(keepdims=True)
    pending = [
        (-1, Siblings(above, copy.groups[0].unk, one, one, num_trainable, [copy.num_samples], none, none, none, none))
    ]
    num_pending, first = 1, 0  # rows that wait, and the first of them
    for row, group in enumerate(copy.groups):  # all nodes above the leaves come first, so their rows are 0, 1, ...
        pending.append((row, group))
        num_pending += len(group.windows)
        if num_pending >= ROWS_PER_BATCH:
            yield _batch(pending, copy.groups[first : first + num_pending])
            pending, num_pending, first = [], 0, first + num_pending
    if num_pending:
        yield _batch(pending, copy.groups[first : first + num_pending])


def _batch(groups: list[tuple[int, Siblings]], own: list[Siblings]) -> pa.RecordBatch:
    """`groups` with their parent's row; `own`: the groups below the batch's first rows; the other rows are leaves."""
    sizes = [len(group.windows) for _, group in groups]
    num_rows = sum(sizes)
    unks: pa.Array = pa.nulls(num_rows - len(own), UNK)
    if own:
        unks = pa.concat_arrays([pa.array([_plain(group.unk) for group in own], UNK), unks])
    siblings = [group for _, group in groups]
    columns = [
        pa.array(np.repeat(np.array([row for row, _ in groups], np.int32), sizes)),
        pa.array([name for group in siblings for name in group.names], pa.string()),
        pa.array(np.concatenate([group.alpha for group in siblings])),
        pa.array(np.concatenate([group.beta for group in siblings])),
        pa.array([count for group in siblings for count in group.num_samples], pa.int64()),
        pa.array(np.concatenate([group.num_trainable for group in siblings])),
        pa.array([window for group in siblings for window in group.windows], pa.binary()),
        _packed([items for group in siblings for items in group.trainable]),
        _packed([items for group in siblings for items in group.heldout]),
        _packed([items for group in siblings for items in group.questions]),
        unks,
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _packed(rows: list[bytes]) -> pa.Array:
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, rows), np.int32, len(rows)) // ITEM, out=offsets[1:])
    values = pa.Array.from_buffers(pa.uint64(), int(offsets[-1]), [None, pa.py_buffer(b"".join(rows))])
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=PACKED)


def _plain(unk: Unk) -> dict[str, Any]:
    plain = {field.name: getattr(unk, field.name) for field in dataclasses.fields(unk)}
    plain["ballot"] = list(unk.ballot.items())
    plain["proposals"] = [
        {"poll": poll, **{name: getattr(given, name) for name in Proposals.__dataclass_fields__}}
        for poll, given in unk.proposals.items()
    ]
    return plain


# Reading.


def read_into(state: TreeState, source: Any) -> None:
    """Replaces everything in a fresh `state`.

    `source`: the file's bytes, a pyarrow buffer or an open file. Raises RunDirError for a file that is damaged, of
    another version, or of a tree or policy that does not fit; afterwards `state` is of no use. Cyclic garbage is not
    collected meanwhile: with millions of objects being made, looking for it takes a third of the time.
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
        header = msgspec.json.decode((reader.schema.metadata or {})[KEY], type=_Header)
        _check(header, state, reader.schema)
        state.tree = KnowledgeTree(header.depth)
        state.testable.clear()
        inner: list[Node] = []
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            batch.validate(full=True)
            _read_batch(state, inner, batch)
        state.tree.start_step()
        restore_progress(state, bytes(header.progress))
        digest = state.digest()
    except _DAMAGE as error:
        raise RunDirError(
            f"a snapshot of the tree cannot be read ({error}); remove it, the journal is enough"
        ) from error
    if digest != header.digest:
        raise RunDirError("a snapshot of the tree does not have the digest it names; remove it, the journal is enough")


def _check(header: _Header, state: TreeState, schema: pa.Schema) -> None:
    if header.version != VERSION:
        raise RunDirError(
            f"a snapshot of the tree has version {header.version}, this program reads version {VERSION}; remove it, "
            "the journal is enough"
        )
    policy = type(state.policy).__name__
    if (header.depth, header.policy) != (state.tree.depth, policy):
        raise RunDirError(
            f"a snapshot of a tree of depth {header.depth} under {header.policy} does not fit tree.depth = "
            f"{state.tree.depth} and {policy}; continue with the settings that wrote it"
        )
    if not schema.equals(SCHEMA):
        raise ValueError("its columns are others")


def _read_batch(state: TreeState, inner: list[Node], batch: pa.RecordBatch) -> None:
    """Adds the batch's nodes to the tree; `inner` holds the nodes above the leaves so far, by row."""
    columns = {name: batch[name].to_numpy(zero_copy_only=False) for name in SCHEMA.names[:7]}
    parents, names, alpha, beta = columns["parent"], columns["name"].tolist(), columns["alpha"], columns["beta"]
    starts = np.flatnonzero(np.diff(parents, prepend=-2)).tolist()
    nodes: list[Node] = []
    for start, end in zip(starts, [*starts[1:], len(parents)], strict=True):
        if parents[start] < 0:
            children = [state.tree.root]
        else:
            parent = inner[parents[start]]
            children = state.tree.add_all(parent, names[start:end])
            arms, first = parent.arms, children[0].index
            arms.alpha[first : first + end - start] = alpha[start:end]
            arms.beta[first : first + end - start] = beta[start:end]
            arms.trainable[first : first + end - start] = columns["num_trainable"][start:end]
        if children[0].arms is not None:
            inner += children
        nodes += children
    min_window = state.policy.min_window
    rows = zip(
        nodes,
        columns["num_samples"].tolist(),
        columns["window"].tolist(),
        *(_unpacked(batch[name]) for name in ("trainable", "heldout", "questions")),
        strict=True,
    )
    for node, num_samples, window, trainable, heldout, questions in rows:
        node.num_samples, node.window = num_samples, window
        node.trainable, node.heldout, node.questions = trainable, heldout, questions
        if len(window) >= min_window:
            state.testable.add(node)
    if batch["unk"].null_count < len(nodes):
        for node, plain in zip(nodes, batch["unk"].to_pylist(), strict=True):
            if plain is not None:
                _read_unk(node, plain)


def _unpacked(column: pa.Array) -> list[bytes]:
    offsets = (column.offsets.to_numpy() * ITEM).tolist()
    data = column.values.to_numpy().tobytes()
    return [data[start:end] for start, end in pairwise(offsets)]


def _read_unk(node: Node, plain: dict[str, Any]) -> None:
    arms = node.arms
    arms.alpha[0], arms.beta[0] = plain["alpha"], plain["beta"]
    arms.ballot = dict(plain["ballot"])
    arms.num_elections, arms.num_polls = plain["num_elections"], plain["num_polls"]
    arms.closed_in_round, arms.memory = plain["closed_in_round"], plain["memory"]
    for given in plain["proposals"]:
        poll, names = given.pop("poll"), tuple(given.pop("names"))
        arms.proposals[poll] = Proposals(names=names, **given)
