"""The history of a run's rounds, read from its journal: pure, from bytes to one record per round.

Called by a driver that continues with an interrupted run: the journal is the one account of what was harvested, so
nothing else has to agree with it. Reads events; keeps no tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from bohdi_ray.errors import RunDirError
from bohdi_ray.tree.elections import NO_VALID_NAME
from bohdi_ray.tree.record import journal


@dataclass(slots=True)
class RoundRecord:
    """One round as far as it was committed. tickets = accepted + the failures."""

    round: int
    weights_version: int  # of the target that was harvested with
    accepted: int = 0
    heldout: int = 0  # part of `accepted`
    heldout_ids: list[str] = field(default_factory=list)  # the same samples by id
    rewards: int = 0  # samples that a source won, held-out ones included
    failures: Counter[str] = field(default_factory=Counter)  # by reason
    abandoned: Counter[str] = field(default_factory=Counter)  # walks that became no ticket, by reason
    tokens: Counter[str] = field(default_factory=Counter)  # decoded, by role
    parts: list[str] = field(default_factory=list)  # what holds its samples
    row_sample_ids: tuple[str, ...] | None = None  # its training rows; None: the round is not closed

    @property
    def is_closed(self) -> bool:
        """Whether the round is harvested and its rows are drawn."""
        return self.row_sample_ids is not None

    @property
    def tickets(self) -> int:
        return self.accepted + sum(self.failures.values())


def read_history(segments: Iterable[bytes]) -> list[RoundRecord]:
    """The rounds in order, the last one open; [] without segments. Raises RunDirError for segments that cannot be read.

    Round 0 is open before the first event, with the target as it was given; its own event may be missing.
    """
    rounds: list[RoundRecord] = []
    for segment in segments:
        rounds = rounds or [RoundRecord(0, 0)]
        for event in journal.decode(segment):
            record = rounds[-1]
            if not _fits(event, record):
                raise _does_not_fit(event, record)
            if not isinstance(event, journal.RoundOpened):
                _take(record, event)
            elif event.round != record.round:
                rounds.append(RoundRecord(event.round, event.weights_version))
    return rounds


def _fits(event: journal.AnyEvent, record: RoundRecord) -> bool:
    """Whether the event may follow in the round, given `record` so far."""
    closed = record.is_closed
    match event:
        case journal.RoundOpened(round=0, weights_version=0):
            return record == RoundRecord(0, 0)
        case journal.RoundOpened(round=round):
            return closed and round == record.round + 1
        case journal.Aged() | journal.Reborn():
            return closed
        case journal.StepCommitted(part=part) if part in record.parts:
            return False
    return not closed


def _does_not_fit(event: journal.AnyEvent, record: RoundRecord) -> RunDirError:
    state = "closed" if record.is_closed else "open"
    return RunDirError(
        f"the tree's journal does not fit together: {type(event).__name__} while round {record.round} is {state}; a "
        "segment is missing or foreign. Restore RUN/tree from a copy"
    )


def _take(record: RoundRecord, event: journal.AnyEvent) -> None:
    match event:
        case journal.Credited(ticket_id=sample_id, reward=reward):
            record.accepted += 1
            if reward is None:
                record.heldout += 1
                record.heldout_ids.append(sample_id)
        case journal.Failed(reason=reason):
            record.failures[reason] += 1
        case journal.Abandoned(reason=reason):
            record.abandoned[reason or NO_VALID_NAME] += 1
        case journal.StepCommitted(part=part, rewards=rewards, num_tokens=num_tokens):
            record.rewards += rewards
            record.tokens.update(num_tokens)
            if part:
                record.parts.append(part)
        case journal.Proposed(num_tokens=decoded):
            record.tokens["sprout"] += decoded
        case journal.RowsDrawn(sample_ids=ids):
            record.row_sample_ids = ids
