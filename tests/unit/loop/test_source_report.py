"""Which source lost what in a round, and why: from requests to the console's lines, the summary and the status."""

from __future__ import annotations

import asyncio
import json

import pytest
from driven import driven
from fakes import ScriptedModels
from openai_server import reply, serving

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.round_figures import HarvestResult, sources_of
from bohdi_ray.driver.telemetry_poller import TelemetryPoller
from bohdi_ray.engines.openai import RemoteEngine
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.errors import PromptTooLong, RequestQuarantined, RequestRefused
from bohdi_ray.harvest.harvest import harvest_one
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.harvest.sprout import sprout
from bohdi_ray.observe.console.summary_table import as_text
from bohdi_ray.observe.events import ComponentsPolled
from bohdi_ray.observe.health import Holder, RunFacts, judge_run
from bohdi_ray.observe.source_report import from_json, is_silent, sentence, silent, summed, troubled
from bohdi_ray.observe.status import read_records
from bohdi_ray.observe.summary import RoundSummary, SampleFigures, Summary
from bohdi_ray.records import SourceCounts, SproutRequest, Ticket, ticket_id
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.tree.messages import RoundClosed

SOURCES = ("ada", "bob")
NO = RequestRefused("bob refused a request: HTTP 403: no such luck")


def config(run_dir="/none"):
    sources = [{"kind": "vllm", "name": name, "model": "./none"} for name in SOURCES]
    target = {"name": "target", "model": "./none"}
    observe = {"console": "lines"}
    return FusionConfig.model_validate(
        {"run_dir": str(run_dir), "sources": sources, "target": target, "observe": observe}
    )


def harvested(models, number=12, round=0):
    """What a round of so many tickets comes to."""
    plan = HarvestPlan.from_config(config())
    harvest = HarvestResult(round, 0, started=0.0, finished=1.0)
    for i in range(number):
        ticket = Ticket(ticket_id(round, 0, i), round, 0, i, ("Science", "Optics"), 0)
        outcome, _ = asyncio.run(harvest_one(ticket, models, plan))
        harvest.outcomes.append(outcome)
        harvest.domains.append("Science")
    return harvest


def models(**queued):
    scripted = ScriptedModels(sources=SOURCES, target="target")
    if queued:
        scripted.queue_completion(**queued)
    return scripted


def test_a_source_whose_requests_all_fail_is_named_with_its_reason():
    harvest = harvested(models(model="bob", times=1000, error=NO))
    tallies = sources_of(harvest)
    assert is_silent(tallies["bob"]) and not is_silent(tallies["ada"])
    assert tallies["bob"].lost.keys() == {"question:request_failed", "answer:request_failed"}
    said = sentence("bob", tallies["bob"])
    assert "NONE of its" in said and "answer:request_failed" in said and "HTTP 403: no such luck" in said
    assert tallies["ada"].num_lost == 0 and "target" not in tallies


def test_every_reason_is_counted_for_the_source_that_it_is_about():
    scripted = models(model="bob", role="answer", text="", times=1)
    scripted.queue_completion(model="bob", role="answer", finish_reason="length", times=1)
    scripted.queue_completion(model="ada", role="judge", text="hm", choice_logprobs=None, times=1)
    scripted.queue_completion(model="ada", role="question", error=PromptTooLong("ada", said="window"), times=1)
    scripted.queue_completion(model="ada", role="question", text="No.", times=1)
    scripted.queue_completion(model="target", role="answer", error=NO, times=3)
    tallies = sources_of(harvested(scripted, 30))
    assert scripted.num_unused == 0
    assert tallies["bob"].lost == {"answer:empty": 1, "answer:truncated": 1}
    assert tallies["ada"].lost == {"judge:unreadable": 1, "question:prompt_too_long": 1, "question:too_short": 1}
    assert tallies["bob"].asked["answer"] == tallies["ada"].asked["answer"] == 29
    assert troubled(tallies) == [sentence("ada", tallies["ada"])], "what a text is like is no error"


def test_quarantined_requests_and_polls_for_names_are_counted_too():
    scripted = models(model="bob", role="sprout", error=NO, times=2)
    scripted.queue_completion(model="bob", role="sprout", raises=RequestQuarantined("x", "part"))
    scripted.queue_completion(model="ada", role="sprout", text=" ")
    plan = HarvestPlan.from_config(config())
    polls = [asyncio.run(sprout(SproutRequest(f"s{i}", (), i, False), scripted, plan)).sources for i in range(2)]
    per_source = 2 * plan.config.sprout.proposals_per_source
    total = summed(polls)
    assert total["bob"].asked == total["ada"].asked == {"sprout": per_source}
    assert total["bob"].lost == {"sprout:request_failed": 2, "sprout:request_quarantined": 1}
    assert total["ada"].lost == {"sprout:empty": 1} and not silent(total)


@pytest.mark.parametrize(
    ("tally", "expected"),
    [
        (SourceCounts({"answer": 3, "sprout": 5}, {"answer:empty": 3}), True),
        (SourceCounts({"answer": 3, "judge": 1}, {"answer:empty": 3}), False),
        (SourceCounts({"sprout": 5}, {"sprout:empty": 5}), True),
        (SourceCounts({"sprout": 5}, {"sprout:empty": 4}), False),
        (SourceCounts(), False),
    ],
)
def test_a_source_is_silent_when_no_question_answer_or_label_of_it_could_be_used(tally, expected):
    assert is_silent(tally) is expected


def test_a_round_says_which_source_gave_nothing_and_status_and_summary_say_it_too(tmp_path, capsys):
    def two_rounds(active) -> None:
        active.add_harvested(silent_bob, RoundClosed(0, (), ()), 8)
        active.add_harvested(one_error, RoundClosed(1, (), ()), 8)

    silent_bob = harvested(models(model="bob", times=1000, error=NO))
    one_error = harvested(models(model="ada", error=NO), round=1)
    summary = driven(config(tmp_path / "run"), RunDir(tmp_path / "run"), two_rounds).ledger.rounds[0]
    said = capsys.readouterr().err
    assert "warning: round 0: bob answered NONE of its" in said and "no such luck" in said
    assert "round 1: ada answered" in said and said.count("warning: ") == 1
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(r["kind"], r["model"]) for r in records if r["kind"] == "source_silent"] == [("source_silent", "bob")]
    told = from_json(read_records(iter(records)).rounds[0]["sources"])
    assert told == summary.sources
    verdict = judge_run(RunFacts("RUN", Holder("me", 1.0, False), silent=silent(told)))
    assert (
        verdict.state == "degraded"
        and "bob answered NONE of its" in verdict.line()
        and "no such luck" in verdict.line()
    )
    whole = Summary("x", (summary, summary), SampleFigures(0, 0, {}, {}, None), {}, None, None, None, (), "d")
    assert (
        whole.to_json()["sources"]["bob"]["lost"]["answer:request_failed"]
        == 2 * summary.sources["bob"].lost["answer:request_failed"]
    )
    assert "What sources gave" in as_text(whole) and "0 of" in as_text(whole) and "no such luck" in as_text(whole)


def test_a_driver_without_sources_in_its_records_or_with_damaged_ones_is_read():
    assert from_json(None) == from_json([]) == {}
    assert from_json({"bob": 7, "ada": {"asked": {"answer": "x", "judge": 2}, "lost": None, "said": 3}}) == {
        "ada": SourceCounts({"judge": 2})
    }
    assert RoundSummary(0, 0, 1, 1).sources == {}


def test_what_a_remote_source_learned_is_said_once(tmp_path, capsys):
    stats = EngineStats("far", 0, 0, 0, 0, 0, 0.0, 1.0, learned=("far: it does not take seed; it is left out",))
    polled = ComponentsPolled({}, {"far-0": stats, "far-1": stats}, 0, (), None, None, None)

    def poll_twice(active) -> None:
        poller = TelemetryPoller(active.config, None, None, None, active.observers)
        poller.report(polled)
        poller.report(polled)

    driven(config(tmp_path / "run"), RunDir(tmp_path / "run"), poll_twice)
    assert capsys.readouterr().err.count("it does not take seed") == 1


class OverServers:
    """`Models` over remote engines on loopback, the target's in process."""

    def __init__(self, engines):
        self._engines, self._target = engines, ScriptedModels(sources=SOURCES, target="target")
        self.sources, self.target = tuple(engines), "target"

    async def ask(self, model, request):
        if model == self.target:
            return await self._target.ask(model, request)
        parts = [part async for part in self._engines[model].run([request])]
        return parts[-1][0]


@pytest.mark.parametrize(("status", "body"), [(403, "no such luck"), (413, {"error": "too large for us"})])
def test_a_server_that_refuses_some_requests_costs_those_and_the_reason_is_told(status, body):
    def answer(sent):
        text = sent["messages"][-1]["content"]
        if "structured_outputs" in sent:
            return 200, reply("A", [("A", -0.1), ("B", -2.4)]), {}
        question = "Why is the sky blue in the evening, and not at night?"
        return 200, reply(question if "question" in text else "Because of how light is scattered on its way."), {}

    with serving() as ada, serving() as bob:
        ada.default = bob.default = answer
        bob.rules = [lambda sent: (status, body, {}) if sent["seed"] % 2 else None]

        async def harvest():
            servers = {"ada": ada, "bob": bob}
            engines = {name: RemoteEngine(s.model(name=name), 0.01) for name, s in servers.items()}
            for engine in engines.values():
                await engine.start()
            plan, over = HarvestPlan.from_config(config()), OverServers(engines)
            tickets = [Ticket(ticket_id(0, 0, i), 0, 0, i, ("Science", "Optics"), 0) for i in range(8)]
            outcomes = [(await harvest_one(ticket, over, plan))[0] for ticket in tickets]
            for engine in engines.values():
                await engine.stop()
            return outcomes

        outcomes = asyncio.run(asyncio.wait_for(harvest(), 60))
    total = summed(outcome.sources for outcome in outcomes)
    assert not silent(total) and 0 < total["bob"].num_lost < total["bob"].num_asked and total["ada"].num_lost == 0
    (said,) = troubled(total)
    assert f"HTTP {status}" in said and ("no such luck" in said or "too large for us" in said)
    assert all(outcome.quarantined is None for outcome in outcomes)
