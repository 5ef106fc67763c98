"""The training examples of the target: four kinds, as frozen records, each with one versioned Arrow schema.

An objective says which kind it needs. Between the task that writes an example and the worker that encodes it only its
id travels. A `Completion` usually is a view of a `Sample` or of a rehearsal row (store.py); the other kinds have parts
of their own. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa

VERSION = b"1"  # of all schemas below; stored in each part's metadata under this key:
VERSION_KEY = b"bohdi_ray.examples"


@dataclass(frozen=True, slots=True)
class Completion:
    """A prompt and the answer that is learned."""

    example_id: str
    question: str
    answer: str
    reasoning: str = ""  # the answer's, where `training.reasoning` teaches it


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with a better and a worse answer."""

    example_id: str
    question: str
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Distribution:
    """A text with a distribution over the target's vocabulary at each of its tokens, on a support of k tokens.

    `support`: token ids, int32, little endian, [T, k] row by row; `probabilities`: float16, alike. T is the number of
    tokens that have a distribution.
    """

    example_id: str
    question: str  # empty for a text that answers nothing
    answer: str
    support_size: int  # k
    support: bytes
    probabilities: bytes


@dataclass(frozen=True, slots=True)
class Text:
    """A text without a prompt."""

    example_id: str
    text: str


Example = Completion | Preference | Distribution | Text
_ARROW = {"str": pa.string(), "int": pa.int64(), "bytes": pa.binary()}
KINDS: dict[str, type[Example]] = {kind.__name__.lower(): kind for kind in (Completion, Preference, Distribution, Text)}
SCHEMAS: dict[type[Example], pa.Schema] = {
    kind: pa.schema(
        [pa.field(field.name, _ARROW[str(field.type)], nullable=False) for field in fields(kind)],
        metadata={VERSION_KEY: VERSION},
    )
    for kind in KINDS.values()
}


def to_table(examples: Sequence[Example]) -> pa.Table:
    """Examples of one kind, at least one, as an Arrow table."""
    return pa.Table.from_pylist([asdict(example) for example in examples], schema=SCHEMAS[type(examples[0])])


def from_table(table: pa.Table, kind: type[Example]) -> list[Example]:
    """The examples in a table; columns that this version does not know are ignored."""
    return [kind(**line) for line in table.select(SCHEMAS[kind].names).to_pylist()]


def is_readable(schema: pa.Schema, kind: type[Example]) -> bool:
    """Whether a part with this schema holds examples of the kind: this version's fields, possibly with more."""
    found: dict[str, Any] = {field.name: field.type for field in schema}
    same_version = (schema.metadata or {}).get(VERSION_KEY) == VERSION
    return same_version and all(found.get(field.name) == field.type for field in SCHEMAS[kind])
