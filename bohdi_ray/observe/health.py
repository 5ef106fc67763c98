"""Whether a run is healthy, which side limits it, and what to do: a pure function of the content of its files.

`bohdi status` gathers the facts; nothing here reads anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["finished", "stopped", "driver dead", "driver silent", "trainer stalled", "degraded", "healthy"]
Side = Literal["harvest", "training"]

SILENT_AFTER_S = 60.0  # the heartbeat comes every 20 s
STALLED_FACTOR = 3.0  # times as long as the longest round of training so far
STALLED_AT_LEAST_S = 120.0
FRESH_S = 180.0  # a poll of the run is recorded every 60 s; older ones say nothing of its current state
BALANCE = 0.05  # idle ratios closer than this are alike


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of the run's lease."""

    owner: str
    heartbeat_age_s: float
    is_over: bool  # too old, or its process is gone


@dataclass(frozen=True, slots=True)
class PollFacts:
    """The newest recorded poll of the components of the run."""

    age_s: float
    harvest_idle: float | None = None  # of the last minutes
    training_idle: float | None = None
    requests: Mapping[str, int] = field(default_factory=dict)  # in flight and waiting, by model
    replicas: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # wanted and up, by model
    lacking: tuple[str, ...] = ()  # models with fewer replicas than wanted in the newest polls, three in a row


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The known facts about a run. Ages and times in s."""

    run: str  # as the remedies name it
    holder: Holder | None = None
    finished: str | None = None  # why it stopped, once everything is written
    ended: str | None = None  # what the last driver ended with; "" if without an error
    num_closed: int = 0  # rounds harvested
    num_trained: int = 0  # rounds trained
    training_for_s: float | None = None  # how long the trainer has had a round that it has not committed
    longest_training_s: float | None = None  # of a round so far
    train_step_s: float = 1800.0  # deadlines.train_step_s
    max_staleness: int = 1
    silent: Mapping[str, str] = field(default_factory=dict)  # sentences about sources that gave nothing in a round
    left_out: Mapping[str, str] = field(default_factory=dict)  # why, by source
    trouble: str = ""  # what keeps the run from learning although all its components work
    poll: PollFacts | None = None


@dataclass(frozen=True, slots=True)
class RunHealth:
    """The health of a run: `text` is one sentence, `remedy` what to do; empty if nothing."""

    state: State
    text: str
    remedy: str = ""
    limited_by: Side | None = None

    @property
    def healthy(self) -> bool:
        return self.state in ("finished", "healthy")

    def line(self) -> str:
        """Text and remedy on one line."""
        return f"{self.state}: {self.text}" + (f"; {self.remedy}" if self.remedy else "")


def judge_run(facts: RunFacts) -> RunHealth:
    """The first of these that applies: no driver, a driver that does not answer, a trainer without progress, missing
    components, all well."""
    resume = f"continue with `bohdi resume {facts.run}`"
    holder = facts.holder
    if holder is None:
        if facts.finished is not None:
            return RunHealth("finished", f"the run ended because {facts.finished}")
        why = f", the last one ended with {facts.ended}" if facts.ended else ""
        return RunHealth("stopped", f"no driver works on it{why}", resume)
    if holder.is_over:
        return RunHealth(
            "driver dead", f"{holder.owner} gave its last heartbeat {_time(holder.heartbeat_age_s)} ago", resume
        )
    if holder.heartbeat_age_s > SILENT_AFTER_S:
        return RunHealth(
            "driver silent",
            f"{holder.owner} gave its last heartbeat {_time(holder.heartbeat_age_s)} ago",
            "see whether its process or the storage hangs",
        )
    if (patience := _patience(facts)) is not None and (facts.training_for_s or 0.0) > patience:
        return RunHealth(
            "trainer stalled",
            f"round {facts.num_trained} has been with the trainer for {_time(facts.training_for_s or 0.0)}, "
            + (
                f"and no round took longer than {_time(facts.longest_training_s)}"
                if facts.longest_training_s is not None
                else f"longer than deadlines.train_step_s ({_time(facts.train_step_s)})"
            ),
            "see the train workers' logs",
        )
    side, how, advice = _limit(facts)
    if facts.left_out:
        reasons = "; ".join(f"{name}: {why}" for name, why in facts.left_out.items())
        remedy = "fix what is down: it is tried again every few minutes"
        return RunHealth("degraded", f"{how}, and works without {', '.join(facts.left_out)} ({reasons})", remedy, side)
    if facts.silent:
        remedy = "see its server and what it said, or take it out of the configuration"
        return RunHealth("degraded", f"{how}, and {'; '.join(facts.silent.values())} in the last round", remedy, side)
    if facts.poll is not None and facts.poll.lacking:
        lacking = ", ".join(
            f"{m} {facts.poll.replicas[m][1]} of {facts.poll.replicas[m][0]}" for m in facts.poll.lacking
        )
        return RunHealth("degraded", f"{how}, and engines are missing: {lacking}", "see the engines' logs", side)
    if facts.trouble:
        return RunHealth("degraded", f"{how}, and {facts.trouble}", "see the reasons below", side)
    return RunHealth("healthy", how, advice, side)


def _patience(facts: RunFacts) -> float | None:
    """How long the trainer may take for a round, s; None while it has none."""
    if facts.num_trained >= facts.num_closed or facts.training_for_s is None:
        return None
    if facts.longest_training_s is None:
        return facts.train_step_s
    return max(STALLED_AT_LEAST_S, STALLED_FACTOR * facts.longest_training_s)


def _limit(facts: RunFacts) -> tuple[Side | None, str, str]:
    """The limiting side, its description, and what to do."""
    poll = facts.poll
    if poll is None or poll.age_s > FRESH_S or poll.harvest_idle is None or poll.training_idle is None:
        return None, "it is too early to say what limits it", ""
    idle = f"the harvest idled {poll.harvest_idle:.0%} of the last minutes, the trainer {poll.training_idle:.0%}"
    if abs(poll.harvest_idle - poll.training_idle) <= BALANCE:
        return None, f"harvest and training are balanced ({idle})", ""
    if poll.harvest_idle > poll.training_idle:
        advice = "to go faster, give the trainer more or faster workers, or train on fewer rows a round"
        if facts.max_staleness == 0:
            advice += ", or let harvest and training overlap (harvest.max_staleness: 1)"
        return "training", f"training-bound ({idle})", advice
    busiest = _busiest(poll)
    advice = f"to go faster, add replicas{f', first of {busiest}' if busiest else ''}"
    if facts.max_staleness == 0:
        advice += ", or let harvest and training overlap (harvest.max_staleness: 1)"
    return "harvest", f"harvest-bound ({idle})", advice


def _busiest(poll: PollFacts) -> str | None:
    """The model with the most requests for each of its engines; None while there are none."""
    loads = {model: n / max(1, poll.replicas.get(model, (1, 1))[1]) for model, n in poll.requests.items() if n}
    return max(loads, key=lambda model: (loads[model], model)) if loads else None


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
