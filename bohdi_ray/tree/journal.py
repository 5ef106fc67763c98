"""The journal: every change of state as an event, and segments of events as bytes.

An event says what became true, not how it was decided, so that replay needs no model, no walk and no draw. A segment
is JSON Lines, one event a line, from one commit point to a later one. Where commit points lie is the manager's affair.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bohdi_ray.errors import RunDirError
from bohdi_ray.records import DomainPath


class Event(msgspec.Struct, tag_field="event", tag=True, omit_defaults=True):
    pass


class RoundOpened(Event):
    round: int
    weights_version: int


class Proposed(Event):
    """Proposals arrived. Journalled so that a resumed run need not ask again."""

    request_id: str
    names: tuple[str, ...]
    num_invalid: int = 0
    num_tokens: int = 0


class Elected(Event):
    """An election was held at `path`. Without a winner it failed."""

    path: DomainPath
    polled: bool  # decided by new proposals; else by the ballot
    winner: str | None
    ballot: dict[str, int]  # what is left of it


class UnkClosed(Event):
    """The `unk` arm at `path` is closed for the rest of the round."""

    path: DomainPath


class Walked(Event):
    """A walk reached a leaf and became a ticket."""

    step: int
    index: int
    path: DomainPath


class Abandoned(Event):
    """A walk found neither a name nor a child."""

    step: int
    index: int


class WalksDone(Event):
    step: int


class Credited(Event):
    """A ticket's sample was accepted; `reward` is None for a held-out one, which gives no credit."""

    ticket_id: str
    path: DomainPath
    question_hash: str
    reward: int | None


class Failed(Event):
    ticket_id: str
    reason: str


class StepCommitted(Event):
    """Commit point. `part` names what holds the step's samples ("": it has none)."""

    step: int
    part: str
    rewards: int = 0  # samples that a source won, held-out ones included
    num_tokens: dict[str, int] = {}  # decoded for the step's tickets, failed ones included, by role


class RowsDrawn(Event):
    """The training rows of the round that ends, by sample id."""

    sample_ids: tuple[str, ...]


class Aged(Event):
    """The next round meets another target, and the policy lets all its beliefs age."""


class Reborn(Event):
    """A domain's posterior starts again from its window (method, section 6)."""

    path: DomainPath
    alpha: float
    beta: float
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
    """The events of one segment. Raises RunDirError for anything this version cannot have written."""
    try:
        yield from _decoder.decode_lines(segment)
    except msgspec.MsgspecError as error:
        raise RunDirError(
            f"a segment of the tree's journal cannot be read ({error}); it is damaged or another version wrote it. "
            "Restore RUN/tree from a copy, or resume with the version that wrote it."
        ) from error


class Journal:
    """Events since the last segment, of which those up to the last commit point may leave."""

    def __init__(self) -> None:
        self._events: list[AnyEvent] = []
        self._num_committed = 0

    def append(self, event: AnyEvent) -> None:
        self._events.append(event)

    def mark(self) -> None:
        """All events so far belong to the past of a commit point."""
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
