"""The journal: every change of state as an event, and segments of events as bytes.

An event says what changed, not how it was decided, so that replay needs no model, no walk and no draw. A segment is
JSON Lines, one event per line, from one commit point to a later one. The manager decides where commit points are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from bohdi_ray.errors import RunDirError
from bohdi_ray.records import DomainPath

# Bounds that no run reaches, so that nothing in a foreign journal overflows where it is counted or hashed.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Reward = Annotated[int, msgspec.Meta(ge=0, le=1)]


class Event(msgspec.Struct, tag_field="event", tag=True, omit_defaults=True, forbid_unknown_fields=True):
    """An event. Unknown fields are refused, not ignored, because a later version may have given them a meaning."""


class RoundOpened(Event):
    round: Count
    weights_version: Count


class Proposed(Event):
    """Proposals arrived. They are journalled so that a resumed run need not request them again."""

    request_id: str
    names: tuple[str, ...]
    num_invalid: Count = 0
    num_tokens: Count = 0
    problem: str = ""  # why there are no names


class Elected(Event):
    """An election was held at `path`. Without a winner it failed."""

    path: DomainPath
    polled: bool  # decided by new proposals; else by the ballot
    winner: str | None
    ballot: dict[str, Count]  # what is left of it


class UnkClosed(Event):
    """The `unk` arm at `path` is closed for the rest of the round."""

    path: DomainPath
    reason: str = ""  # why the last election there failed


class Walked(Event):
    """A walk reached a leaf and became a ticket."""

    step: Count
    index: Count
    path: DomainPath


class Abandoned(Event):
    """A walk found neither a name nor a child."""

    step: Count
    index: Count
    reason: str = ""  # why `unk` was closed where it ended; empty in journals of earlier versions


class WalksDone(Event):
    step: Count


class Credited(Event):
    """A ticket's sample was accepted; `reward` is None for a held-out one, which gives no credit."""

    ticket_id: str
    path: DomainPath
    question_hash: str
    reward: Reward | None


class Failed(Event):
    ticket_id: str
    reason: str


class StepCommitted(Event):
    """Commit point. `part` names the file with the step's samples ("": there is none)."""

    step: Count
    part: str
    rewards: Count = 0  # samples that a source won, held-out ones included
    num_tokens: dict[str, Count] = {}  # decoded for the step's tickets, failed ones included, by role


class RowsDrawn(Event):
    """The training rows of the round that ends, by sample id."""

    sample_ids: tuple[str, ...]


class Aged(Event):
    """The next round has new target weights, and the policy lets all its beliefs age."""


class Reborn(Event):
    """A domain's posterior starts again from its window (method, section 6)."""

    path: DomainPath
    alpha: Positive
    beta: Positive
    statistic: float | None  # None: infinite, for JSON has no infinity
    p_value: float


AnyEvent = (
    RoundOpened
    | Proposed
    | Elected
    | UnkClosed
    | Walked
    | Abandoned
    | WalksDone
    | Credited
    | Failed
    | StepCommitted
    | RowsDrawn
    | Aged
    | Reborn
)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyEvent)


def encode(events: list[AnyEvent]) -> bytes:
    return _encoder.encode_lines(events)


def decode(segment: bytes) -> Iterator[AnyEvent]:
    """The events of one segment. Raises RunDirError for anything that this version cannot have written."""
    try:
        yield from _decoder.decode_lines(segment)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RunDirError(
            f"a segment of the tree's journal cannot be read ({error}); it is damaged or another version wrote it. "
            "Restore RUN/tree from a copy, or resume with the version that wrote it."
        ) from error


class Journal:
    """Events since the last segment; those up to the last commit point may be written."""

    def __init__(self) -> None:
        self._events: list[AnyEvent] = []
        self._num_committed = 0

    def append(self, event: AnyEvent) -> None:
        self._events.append(event)

    def mark(self) -> None:
        """Sets a commit point after all events so far."""
        self._num_committed = len(self._events)

    @property
    def uncommitted(self) -> tuple[AnyEvent, ...]:
        return tuple(self._events[self._num_committed :])

    def take_segment(self) -> bytes:
        """The events from the last segment to the last commit point; empty when there was none in between."""
        segment = encode(self._events[: self._num_committed])
        del self._events[: self._num_committed]
        self._num_committed = 0
        return segment
