"""The events of a run, as frozen records. The driver reports them; observers (`observers.py`) handle those they know.

An event says what has happened and contains everything an observer needs, so no observer queries the run and each can
be omitted. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.observe.summary import RoundSummary, Summary
from bohdi_ray.records import Outcome
from bohdi_ray.tree.messages import Rebirth


class Tell(Protocol):
    """The function with which a part of the driver reports an event: `Observers.tell`."""

    def __call__(self, event: Event) -> None: ...


class Notify(Protocol):
    """The function with which a part of the driver reports what a person should not miss: `Observers.notify`."""

    def __call__(self, kind: str, text: str, **fields: Any) -> None:
        """`kind` and `fields` go into metrics.jsonl, `text` to the console."""
        ...


class Event:
    """One of the records below."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Message(Event):
    """A line for the person who watches; it is not recorded."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """Something that a person should not miss, such as a source that became unavailable."""

    kind: str
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunOpened(Event):
    """The driver owns the run and has read its state; no component has started yet."""


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The run that was opened had been started before."""

    location: str
    driver: int  # the number of this one, from 1
    num_closed: int  # rounds that are harvested
    open_round: int | None  # the round under way, if some of its tickets are done
    num_open_tickets: int  # of these
    weights_version: int  # the newest
    damaged: str | None  # what is wrong with the journal's last segment, which is left out
    changes: tuple[str, ...]  # of the configuration


@dataclass(frozen=True, slots=True)
class Started(Event):
    """All engines and the trainer are up; `seconds` counts from the driver's start."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RoundBegan(Event):
    """A round's harvest begins."""

    round: int
    weights_version: int  # of the target
    heldout_loss: float | None  # of the round before, if it is trained already


@dataclass(frozen=True, slots=True)
class HarvestMoved(Event):
    """Progress of a running harvest: tasks have ended, or a step was committed."""

    round: int
    num_tickets_issued: int
    num_tickets_done: int
    num_accepted: int
    reward_rate: float | None  # of the committed samples
    tokens_per_s: float | None  # None in the first second
    new_outcomes: tuple[tuple[str, Outcome], ...] = ()  # committed since the last event, each with its main domain
    new_tokens: Mapping[str, int] = field(default_factory=dict)  # decoded since the last event, by "role/model"


@dataclass(frozen=True, slots=True)
class WeightsServed(Event):
    """The target's engines now serve these weights."""

    version: int
    seconds: float
    reports: tuple[Any, ...]  # of the engines


@dataclass(frozen=True, slots=True)
class RehearsalAsked(Event):
    """Version 0 of the target was asked for the rehearsal of `num_rounds` rounds, from `round` on."""

    round: int
    num_rounds: int
    seconds: float
    counts: Mapping[str, int]  # questions that were "kept", or no row for which reason
    num_tokens: int


@dataclass(frozen=True, slots=True)
class VersionEvaluated(Event):
    """The target's engines were asked the tasks of `evaluate`."""

    version: int
    scores: Mapping[str, float]  # by task, of its usual metric
    seconds: float
    extra_s: float  # of these, what the run waited for nothing else
    num_tokens: int


@dataclass(frozen=True, slots=True)
class TurnSwitched(Event):
    """With `placement: colocate`: the GPUs now belong to this side, harvest or training."""

    to: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RowsHandedOver(Event):
    """The trainer's queue has a round's rows."""

    round: int
    num_rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class EnginesCounted(Event):
    """Counters of the engines by replica, at the end of a round's harvest."""

    cost: float  # of the whole run so far
    num_replaced: int  # engines, since the driver's start
    replicas: Mapping[str, EngineStats]


@dataclass(frozen=True, slots=True)
class RoundHarvested(Event):
    """A round is harvested and its rows are queued."""

    summary: RoundSummary
    cost: float  # of the whole run so far
    reborn: tuple[Rebirth, ...]
    new_abandoned: Mapping[str, int]  # walks without a domain, by reason, of this driver
    requests: Mapping[str, int]  # counts of the harvest tasks
    num_elections_asked: int
    num_invalid_names: int
    num_unsupported_names: int


@dataclass(frozen=True, slots=True)
class RoundTrained(Event):
    """The trainer has committed a round."""

    summary: RoundSummary
    metrics: Mapping[str, Any]  # as of training.round_metrics


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """The trainer's queue at one moment."""

    num_rows: int  # drawn and not trained on
    num_steps: int  # put and not done
    busy: bool  # the trainer has a step to work on
    committed_version: int
    attempt: int  # start of the worker group
    incarnation: str  # another one after a restart of the queue


@dataclass(frozen=True, slots=True)
class ComponentsPolled(Event):
    """The state of a run's components at one moment. None, or a missing entry: no answer."""

    replicas: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # wanted and up, by model
    engines: Mapping[str, EngineStats] = field(default_factory=dict)  # by replica
    num_replaced: int = 0  # engines, since the driver's start
    sources_left_out: tuple[str, ...] = ()
    queue: QueueFigures | None = None
    tree: Mapping[str, Any] | None = None  # as TreeManager.stats
    domains_by_level: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class TreeRestored(Event):
    """The content of the tree before this driver started: totals are counted from here."""

    tree: Mapping[str, Any]  # as TreeManager.stats


@dataclass(frozen=True, slots=True)
class PollingEnded(Event):
    """The components are shutting down: their last polled figures are no longer valid."""


@dataclass(frozen=True, slots=True)
class Summarized(Event):
    """The run has ended; these are its final figures."""

    summary: Summary


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """The driver's last event: its outcome."""

    error: str | None
    stop_reason: str | None
