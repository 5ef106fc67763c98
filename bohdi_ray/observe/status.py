"""`bohdi status RUN`: health and a few figures of a run, from its files alone. Reads only; needs no Ray and no lease.

Sources: lease.json (who works on it), the journal (what is harvested), checkpoints (what is trained), progress.json and
metrics.jsonl (figures). Unreadable lines of metrics.jsonl are skipped.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bohdi_ray.languages.terminal_text import one_line
from bohdi_ray.observe.health import Holder, PollFacts, RunFacts, RunHealth, judge_run
from bohdi_ray.observe.source_report import from_json, sentence, silent
from bohdi_ray.records import SourceCounts
from bohdi_ray.run.json_files import facts as json_object
from bohdi_ray.run.lease import is_over, read_lease
from bohdi_ray.run.run_dir import BEST, METRICS, SUMMARY, TARGET, RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.run.state import DriverState, read_state
from bohdi_ray.tree.record.history import RoundRecord, read_history

LACKING_POLLS = 3  # in a row, so that an engine that is being replaced is no fault of the run


@dataclass(slots=True)
class Recorded:
    """The records of the newest driver in metrics.jsonl."""

    started_at: float | None = None  # when all its components were up, Unix time, s
    ended: str | None = None  # what it ended with; "" if without an error
    polls: list[dict[str, Any]] = field(default_factory=list)  # the newest few
    left_out: dict[str, str] = field(default_factory=dict)
    closed_at: dict[int, float] = field(default_factory=dict)  # by round, Unix time, s
    committed_at: dict[int, float] = field(default_factory=dict)  # the same of its training
    rounds: dict[int, dict[str, Any]] = field(default_factory=dict)  # the records of harvested rounds
    training: dict[str, Any] = field(default_factory=dict)  # the newest record of a trained round


@dataclass(frozen=True, slots=True)
class Status:
    """RunHealth and figures."""

    health: RunHealth
    figures: tuple[str, ...]

    def text(self) -> str:
        return "\n".join(one_line(line, 400) for line in (self.health.line(), *self.figures))


def status_of(location: str, now: float | None = None) -> Status:
    """The status of the run at `now` (Unix time, s; default: now). Raises RunDirError for a folder that holds no run,
    and for a damaged journal or lease."""
    now = time.time() if now is None else now
    run = RunDir.open(location)
    journal = Segments(run).read_segments()
    records = read_history(data for _, data in journal.segments)
    committed = run.committed_rounds()
    state = read_state(run, committed[-1] + 1 if committed else 0)
    recorded = read_records(_records(run))
    facts = _facts(run, records, committed, state, recorded, now)
    damaged = [] if journal.damaged is None else [f"journal: {journal.damaged}"]
    return Status(judge_run(facts), (*_figures(facts, records, state, recorded), *damaged))


def read_records(records: Iterator[dict[str, Any]]) -> Recorded:
    """A summary of the records of metrics.jsonl."""
    recorded = Recorded()
    for record in records:
        kind, at = record.get("kind"), _number(record, "time")
        model, round = record.get("model"), record.get("round")
        if kind in ("resumed", "start_up"):
            recorded.ended, recorded.polls = None, []
            recorded.started_at = at if kind == "start_up" else None
            if kind == "resumed":
                recorded.left_out = {}
        elif kind == "ended":
            recorded.ended = str(record.get("error") or "")
        elif kind == "look":
            recorded.polls = [*recorded.polls[-LACKING_POLLS + 1 :], record]
        elif kind == "source_left_out" and isinstance(model, str):
            recorded.left_out[model] = str(record.get("error"))
        elif kind == "source_back" and isinstance(model, str):
            recorded.left_out.pop(model, None)
        elif kind == "round" and isinstance(round, int) and at is not None:
            recorded.closed_at[round], recorded.rounds[round] = at, record
        elif kind == "training" and isinstance(round, int):
            recorded.training = record
            if (committed_at := _number(record, "committed_at")) is not None:
                recorded.committed_at[round] = committed_at
    return recorded


def _facts(
    run: RunDir, records: list[RoundRecord], committed: list[int], state: DriverState, recorded: Recorded, now: float
) -> RunFacts:
    config, held = run.config(), read_lease(run)
    num_closed, num_trained = sum(record.is_closed for record in records), committed[-1] + 1 if committed else 0
    # Since when the trainer can have been at it: it was up, had the round, and was done with the one before.
    began = max(
        recorded.started_at or 0.0,
        recorded.closed_at.get(num_trained, 0.0),
        recorded.committed_at.get(num_trained - 1, 0.0),
    )
    times = [known.seconds for known in state.trained.values() if known.seconds > 0]
    return RunFacts(
        run=run.location,
        holder=held and Holder(held["owner"], max(0.0, now - held["heartbeat_at"]), is_over(held, now)),
        finished=_finished(run),
        ended=recorded.ended,
        num_closed=num_closed,
        num_trained=num_trained,
        training_for_s=now - began if recorded.started_at is not None and num_trained < num_closed else None,
        longest_training_s=max(times, default=None),
        train_step_s=config.deadlines.train_step_s,
        max_staleness=config.harvest.max_staleness,
        trouble=_trouble(records, state),
        left_out=recorded.left_out,
        silent=silent(_newest_sources(recorded)),
        poll=_poll(recorded.polls, now),
    )


def _trouble(records: list[RoundRecord], state: DriverState) -> str:
    """Why the run does not learn although all its components work; empty if it does."""
    empty = 0
    for record in reversed([record for record in records if record.is_closed]):
        if record.accepted or not (record.tickets or record.abandoned):
            break
        empty += 1
    if empty:
        return f"the last {empty} rounds gave no sample" if empty > 1 else "the last round gave no sample"
    newest = state.trained[max(state.trained)] if state.trained else None
    if newest is not None and newest.rejected_rows:
        return f"{sum(newest.rejected_rows.values())} rows of the last trained round were rejected"
    return ""


def _finished(run: RunDir) -> str | None:
    """Why the run ended, if all its final files are written."""
    if not (run.exists(SUMMARY) and run.is_exported(TARGET) and run.is_exported(BEST)):
        return None
    summary = json_object(run.read_bytes(SUMMARY), f"{run.location}/{SUMMARY}", "remove it: the run then continues")
    return str(summary.get("stop_reason"))


def _poll(polls: list[dict[str, Any]], now: float) -> PollFacts | None:
    if not polls or (at := _number(polls[-1], "time")) is None:
        return None
    replicas = [_replicas(poll) for poll in polls]
    lacking = [
        model
        for model in replicas[-1]
        if len(replicas) == LACKING_POLLS and all(model in r and r[model][1] < r[model][0] for r in replicas)
    ]
    requests = polls[-1].get("requests")
    return PollFacts(
        age_s=max(0.0, now - at),
        harvest_idle=_number(polls[-1], "harvest_idle"),
        training_idle=_number(polls[-1], "training_idle"),
        requests={str(m): n for m, n in _object(requests).items() if isinstance(n, int)},
        replicas=replicas[-1],
        lacking=tuple(lacking),
    )


def _replicas(poll: dict[str, Any]) -> dict[str, tuple[int, int]]:
    counts = {}
    for model, count in _object(poll.get("replicas")).items():
        wanted, up = _object(count).get("wanted"), _object(count).get("up")
        if isinstance(wanted, int) and isinstance(up, int):
            counts[str(model)] = wanted, up
    return counts


def _figures(facts: RunFacts, records: list[RoundRecord], state: DriverState, recorded: Recorded) -> Iterator[str]:
    accepted, tickets = sum(r.accepted for r in records), sum(r.tickets for r in records)
    heldout = sum(r.heldout for r in records)
    begun = [r for r in records if r.is_closed or r.tickets]  # the last one that is not closed may never begin
    newest = begun[-1] if begun else None
    under_way = newest is not None and not newest.is_closed
    so_far = f", round {newest.round} under way with {newest.tickets} tickets done" if newest and under_way else ""
    yield f"rounds: {facts.num_closed} harvested, {facts.num_trained} trained{so_far}"
    harvested = (
        f"; round {newest.round} {'is' if under_way else 'was'} harvested with {newest.weights_version}"
        if newest
        else ""
    )
    yield f"weights: version {facts.num_trained} is the newest{harvested}"
    yield f"samples: {accepted} of {tickets} tickets, {heldout} held out"
    if lost := sum((record.failures + record.abandoned for record in records), Counter[str]()):
        yield f"lost: {', '.join(f'{n} {reason}' for reason, n in lost.most_common())}"
    if rejected := sum((Counter(known.rejected_rows) for known in state.trained.values()), Counter[str]()):
        counts = ", ".join(f"{n} {reason}" for reason, n in rejected.most_common())
        yield f"training rows REJECTED: {rejected.total()} ({counts})"
    rates = []
    if recorded.rounds and (last := recorded.rounds[max(recorded.rounds)]):
        seconds, number = _number(last, "seconds"), _number(last, "accepted")
        if seconds and number is not None:
            rates.append(f"{number / seconds:.2f} samples/s in round {max(recorded.rounds)}")
        if (rate := _number(last, "reward_rate")) is not None:
            rates.append(f"sources won {rate:.0%}")
    if speed := _number(recorded.training, "tokens_per_s"):
        rates.append(f"training {speed:.0f} tokens/s")
    if rates:
        yield f"rates: {', '.join(rates)}"
    if facts.holder is not None and facts.poll is not None and facts.poll.replicas:
        counts = ", ".join(f"{model} {up}/{wanted}" for model, (wanted, up) in facts.poll.replicas.items())
        yield f"engines up/wanted: {counts} ({facts.poll.age_s:.0f} s ago)"
    losses = [(round, known.heldout_loss) for round, known in state.trained.items() if known.heldout_loss is not None]
    if losses:
        yield f"held-out loss: {losses[-1][1]:.3f} after round {losses[-1][0]}; best version {state.best_version}"
    if facts.holder is not None:
        yield f"lease: {facts.holder.owner}, heartbeat {facts.holder.heartbeat_age_s:.0f} s ago"
    if lossy := [sentence(s, tally) for s, tally in _newest_sources(recorded).items() if tally.lost]:
        yield f"sources in round {max(recorded.rounds)}: {'; '.join(lossy)}"
    if facts.left_out and facts.holder is not None:
        yield f"sources left out: {', '.join(facts.left_out)}"


def _records(run: RunDir) -> Iterator[dict[str, Any]]:
    """The readable records of metrics.jsonl."""
    data = run.read_bytes(METRICS) if run.exists(METRICS) else b""
    for line in data.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


def _newest_sources(recorded: Recorded) -> dict[str, SourceCounts]:
    """The counts of each source in the newest harvested round."""
    return from_json(recorded.rounds[max(recorded.rounds)].get("sources")) if recorded.rounds else {}


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(record: Mapping[str, Any], name: str) -> float | None:
    """A finite number; None for anything else."""
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond floats
        return None
