"""Observers get every event once, and what they do changes no run: one that fails is left out, the storage's errors
end the run."""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
import logging
from pathlib import Path

import pytest

from bohdi_ray.errors import LeaseLost, StorageFailed
from bohdi_ray.observe import events
from bohdi_ray.observe.console import observer as console_observer
from bohdi_ray.observe.console.observer import ConsoleObserver
from bohdi_ray.observe.console.view import Console
from bohdi_ray.observe.events import ComponentsPolled, Event, Message, Notice, RoundBegan, RoundHarvested, RunOpened
from bohdi_ray.observe.metrics import Metrics
from bohdi_ray.observe.observers import Observers
from bohdi_ray.observe.recorder import RECORD_POLL_EVERY_S, MetricsRecorder
from bohdi_ray.observe.run_metrics import RunMetrics
from bohdi_ray.observe.summary import RoundSummary, SampleFigures, Summary
from bohdi_ray.records import SourceCounts
from bohdi_ray.run.run_dir import RunDir


class Noting:
    """An observer that keeps what it is told, or raises."""

    def __init__(self, error: Exception | None = None, closing: Exception | None = None):
        self.told: list[Event] = []
        self.num_closed = 0
        self._error, self._closing = error, closing

    def tell(self, event: Event) -> None:
        self.told.append(event)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.num_closed += 1
        if self._closing is not None:
            raise self._closing


def test_every_observer_gets_every_event_in_order():
    first, second = Noting(), Noting()
    observers = Observers([first, second])
    observers.tell(RunOpened())
    observers.notify("source_back", "bob is back", model="bob")
    assert first.told == second.told == [RunOpened(), Notice("source_back", "bob is back", {"model": "bob"})]
    observers.close()
    assert (first.num_closed, second.num_closed) == (1, 1)


def test_an_observer_that_raises_is_warned_of_once_and_left_out(caplog):
    bad, good = Noting(ValueError("no such figure")), Noting()
    observers = Observers([bad, good])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            observers.tell(RunOpened())
        observers.close()
    assert len(bad.told) == 1 and bad.num_closed == 1 and len(good.told) == 3
    (record,) = caplog.records
    assert "Noting failed; the run continues" in record.message and "no such figure" in caplog.text


def test_an_observer_that_cannot_even_be_closed_ends_no_run(caplog):
    first, bad = Noting(), Noting(closing=OSError("gone"))
    Observers([first, bad]).close()
    assert (first.num_closed, bad.num_closed) == (1, 1) and "the run continues without it" in caplog.text


@pytest.mark.parametrize("error", [StorageFailed("the disk is full"), LeaseLost("theirs")])
def test_a_full_disk_and_a_run_that_somebody_else_owns_end_the_run(error):
    bad, good = Noting(error, closing=error), Noting()
    observers = Observers([good, bad])
    for _ in range(2):
        with pytest.raises(type(error)):
            observers.tell(RunOpened())
    with pytest.raises(type(error)):
        observers.close()
    assert len(bad.told) == 2 and good.num_closed == 1, "the others are closed all the same"


def test_a_console_that_is_gone_is_no_reason_to_end(monkeypatch, caplog):
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(console_observer, "Console", lambda mode: Console(mode, Broken()))
    monkeypatch.setattr(logging, "raiseExceptions", False)
    observers = Observers([ConsoleObserver("lines"), good := Noting()])
    observers.tell(Message("all is well"))
    logging.getLogger("bohdi_ray.some.room").warning("a warning")
    observers.tell(Message("still"))
    observers.close()
    assert len(good.told) == 2 and "ConsoleObserver failed" in caplog.text


# What each of the three handles.

ALL = [kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, Event) and kind is not Event]
SILENT_SOURCE = SourceCounts({"answer": 3}, {"answer:request_failed": 3}, "HTTP 403")
ROUND = RoundSummary(0, 0, 4, 3, sources={"bob": SILENT_SOURCE}, seconds={"harvest": 2.0}, training_rows=8)
SUMMARY = Summary("stop.rounds = 1", (ROUND,), SampleFigures(0, 0, {}, {}, None), {}, None, None, None, (), "d")
FIELDS = {"summary": ROUND, "metrics": {"loss": 1.5, "heldout_rows": {"a": (1.0, 2)}}, "tree": {}, "fields": {"n": 1}}


def made(kind: type[Event]) -> Event:
    """An event with some value for every field."""
    by_type = {"int": 1, "float": 1.5, "str": "text", "bool": True}
    values = {}
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            name = str(field.type)
            empty = () if name.startswith("tuple") else {}
            values[field.name] = FIELDS.get(field.name, by_type.get(name, None if "None" in name else empty))
    if kind is events.Summarized:
        values["summary"] = SUMMARY
    if kind is events.TreeRestored:
        values["tree"] = {"num_sprouts": 1, "num_failed_sprouts": 0}
    return kind(**values)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_event_is_a_frozen_record_that_no_observer_fails_on(kind, tmp_path, monkeypatch, caplog):
    event = made(kind)
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    monkeypatch.setattr("bohdi_ray.observe.run_metrics.asyncio.ensure_future", lambda work: work.close() or Task())
    observers = Observers(
        [ConsoleObserver("lines"), MetricsRecorder(Metrics(RunDir(tmp_path))), RunMetrics("r", clock=lambda: 0.0)]
    )
    observers.tell(event)
    observers.close()
    assert caplog.text == ""


class Task:
    def add_done_callback(self, callback) -> None: ...

    def cancel(self) -> None: ...


def test_a_source_that_gave_nothing_is_a_warning_and_a_record(tmp_path, capsys):
    event = RoundHarvested(ROUND, 0.0, (), {}, {"questions": 4}, 1, 2, 3)
    observers = Observers([ConsoleObserver("lines"), MetricsRecorder(Metrics(RunDir(tmp_path)))])
    observers.tell(event)
    observers.close()
    assert "warning: round 0: bob answered NONE of its 3 requests" in capsys.readouterr().err
    round, silent = lines(tmp_path)
    assert (round["kind"], round["requests"], round["elections_asked"]) == ("round", {"questions": 4}, 1)
    assert (silent["kind"], silent["model"], silent["round"]) == ("source_silent", "bob", 0)


def test_held_out_rows_stay_out_of_the_records(tmp_path):
    recorder = MetricsRecorder(Metrics(RunDir(tmp_path)))
    recorder.tell(events.RoundTrained(ROUND, {"loss": 1.5, "heldout_rows": {"a": (1.0, 2)}}))
    recorder.close()
    (record,) = lines(tmp_path)
    assert record["loss"] == 1.5 and "heldout_rows" not in record


def test_a_poll_is_recorded_once_a_minute_and_after_a_round(tmp_path):
    now = [0.0]
    recorder = MetricsRecorder(Metrics(RunDir(tmp_path)), clock=lambda: now[0])
    polled = ComponentsPolled(replicas={"near": (2, 1)}, sources_left_out=("far",))
    recorder.tell(RoundBegan(0, 0, None))
    for now[0] in (10.0, 12.0, 10.0 + RECORD_POLL_EVERY_S):
        recorder.tell(polled)
    recorder.tell(RoundHarvested(ROUND, 0.0, (), {}, {}, 0, 0, 0))
    recorder.tell(polled)
    recorder.close()
    records = [record for record in lines(tmp_path) if record["kind"] in ("look", "round")]
    assert [record["kind"] for record in records] == ["look", "look", "round", "look"]
    assert records[0]["replicas"] == {"near": {"wanted": 2, "up": 1}} and records[0]["sources_left_out"] == ["far"]
    assert records[0]["harvest_idle"] == 0.0 and records[0]["queue_rows"] is None


def test_the_held_out_loss_of_the_round_before_is_shown_while_a_round_is_harvested(capsys):
    observer = ConsoleObserver("lines")
    observer.tell(RoundBegan(1, 0, 2.25))
    observer.tell(events.HarvestMoved(1, 8, 4, 3, 0.5, 90.0))
    observer.close()
    line = "round 1, phase harvest, tickets 4/8, accepted 3, sources win 50%, tokens/s 90, held-out loss 2.250"
    assert line in " ".join(capsys.readouterr().err.split())
