"""The answers of TreeManager. Frozen, small, picklable, because they cross processes."""

from __future__ import annotations

from dataclasses import dataclass, field

from bohdi_ray.records import DomainPath, SproutRequest, Ticket


@dataclass(frozen=True, slots=True)
class Work:
    """The current work."""

    round: int
    tickets: tuple[Ticket, ...]  # issued since the cursor, their step not yet committed
    cursor: int  # for the next call
    sprouts: tuple[SproutRequest, ...]  # all open ones: those a walk waits for, then those asked ahead
    abandoned_for: dict[str, int] = field(default_factory=dict)  # walks of this round that became no ticket, by reason


@dataclass(frozen=True, slots=True)
class Rebirth:
    """A domain whose reward rate changed (method, section 6)."""

    path: DomainPath
    before: tuple[float, float]  # alpha, beta
    after: tuple[float, float]
    statistic: float  # of the policy's test; may be infinite
    p_value: float


@dataclass(frozen=True, slots=True)
class RoundClosed:
    """The result of closing a round: its training rows, and what changed before the next round."""

    round: int
    row_sample_ids: tuple[str, ...]  # E * B_e sample ids, repeats included; empty when nothing is trainable
    reborn: tuple[Rebirth, ...]  # by path


@dataclass(slots=True)
class Counts:
    """Everything counted since the run began. Issued = committed + failed + in flight, always."""

    num_issued: int = 0
    num_committed: int = 0  # tickets with an accepted sample, held-out ones included
    num_heldout: int = 0
    num_failed: dict[str, int] = field(default_factory=dict)  # by reason
    num_abandoned: int = 0  # walks that became no ticket
    num_sprouts: int = 0  # elections with a winner
    num_ballot_sprouts: int = 0  # of these, without asking anyone
    num_failed_sprouts: int = 0
    num_rebirths: int = 0
    num_proposals: int = 0  # valid names that arrived
    num_invalid_proposals: int = 0
    num_sprout_tokens: int = 0  # decoded for proposals
    sum_rewards: int = 0
