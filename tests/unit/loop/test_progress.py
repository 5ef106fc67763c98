"""The driver's book-keeping: held-out gain in pairs, a round's counters, what the stop rules see, what it cost."""

import json
import time
from dataclasses import replace

import pytest

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.harvest_round import HarvestResult
from bohdi_ray.driver.progress import RunProgress
from bohdi_ray.driver.resume import RecoveredState
from bohdi_ray.driver.round_figures import HarvestNews, cost, round_summary
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.errors import DeadlineExceeded
from bohdi_ray.observe.run_metrics import TelemetryReading
from bohdi_ray.records import Outcome
from bohdi_ray.rounds import HeldoutTrail
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.tree.messages import RoundClosed

REMOTE = {
    "kind": "openai",
    "name": "far",
    "model": "far",
    "base_url": "http://localhost:1/v1",
    "price_per_million_prompt_tokens": 2.0,
    "price_per_million_output_tokens": 10.0,
}


def config(run_dir="runs/none") -> FusionConfig:
    return FusionConfig.model_validate(
        {
            "run_dir": str(run_dir),
            "sources": [{"kind": "vllm", "name": "near", "model": "./none"}, REMOTE],
            "target": {"name": "target", "model": "./none"},
            "observe": {"console": "quiet"},
        }
    )


@pytest.fixture
def progress(tmp_path):
    with RunProgress(config(tmp_path / "run"), RunDir(tmp_path / "run"), time.time()) as progress:
        yield progress


# Held-out trail.


def test_versions_are_compared_on_the_rows_that_both_have():
    trail = HeldoutTrail()
    trail.add(1, {"a": (4.0, 2)})
    # Row b is hard and new: over all rows the loss rose, over the shared one it fell.
    trail.add(2, {"a": (3.0, 2), "b": (90.0, 3)})
    assert (trail.best_version, trail.rounds_without_gain) == (2, 0)


def test_losses_are_weighted_by_tokens():
    trail = HeldoutTrail()
    trail.add(1, {"a": (1.0, 1), "b": (18.0, 9)})  # 1.9 a token
    trail.add(2, {"a": (0.0, 1), "b": (18.9, 9)})  # 1.89; by rows it would have risen from 1.5 to 1.55
    assert trail.best_version == 2
    trail.add(3, {"a": (2.0, 1), "b": (18.0, 9)})
    assert trail.best_version == 2


def test_rounds_without_a_gain_are_counted_from_the_best_version_on():
    trail = HeldoutTrail()
    for version, loss in enumerate([3.0, 2.0, 2.5, 2.0, 2.1], start=1):
        trail.add(version, {"a": (loss, 1)})
    assert (trail.best_version, trail.rounds_without_gain) == (2, 3)
    trail.add(6, {"a": (1.9, 1)})
    assert (trail.best_version, trail.rounds_without_gain) == (6, 0)


def test_a_version_without_held_out_rows_says_nothing():
    trail = HeldoutTrail()
    trail.add(1, {})
    assert (trail.best_version, trail.best, trail.rounds_without_gain) == (0, {}, 0)


# A round's counters.

OUTCOMES = [
    Outcome("t0", reward=1, question_hash="0", num_tokens={"question": 5, "answer": 50}, counts={"questions": 1}),
    Outcome("t1", reward=0, question_hash="1", num_tokens={"question": 5, "answer": 40}, counts={"questions": 2}),
    Outcome("t2", reward=1, question_hash="2", heldout=True, num_tokens={"answer": 30}),
    Outcome("t3", failure="no_question", num_tokens={"question": 7}),
    Outcome("t4", failure="no_question"),
    Outcome("t5", failure="duplicate_question", num_tokens={"answer": 20}),
]


def harvest(round=0, outcomes=OUTCOMES) -> HarvestResult:
    domains = ["Science"] * len(outcomes)
    return HarvestResult(
        round, 0, outcomes=list(outcomes), domains=domains, sprout_tokens=9, started=10.0, finished=14.0
    )


def test_every_ticket_is_either_accepted_or_failed_with_its_reason():
    summary = round_summary(harvest(), num_rows=12)
    assert summary.tickets == 6 == summary.accepted + sum(summary.failures.values())
    assert summary.failures == {"no_question": 2, "duplicate_question": 1}
    assert (summary.accepted, summary.heldout, summary.rewards) == (3, 1, 2)


def test_tokens_of_failed_tickets_and_of_sprouts_count_too():
    assert round_summary(harvest(), 12).tokens == {"sprout": 9, "question": 17, "answer": 140}


def test_a_round_in_which_nothing_was_accepted_has_no_reward_rate():
    summary = round_summary(harvest(outcomes=OUTCOMES[3:]), 0)
    assert (summary.accepted, summary.reward_rate) == (0, None)


# What the stop rules look at.


def test_reached_adds_up_the_rounds(progress):
    for round in range(2):
        progress.on_closed(harvest(round), RoundClosed(round, (), ()), 12)
    reached = progress.reached()
    assert (reached.rounds, reached.samples, reached.decoded_tokens) == (2, 6, 2 * 166)
    assert reached.wall_time_s >= 0
    assert reached.rounds_without_gain == 0


def test_training_news_reach_the_round_they_belong_to_and_the_trail(progress):
    for round in range(2):
        progress.on_closed(harvest(round), RoundClosed(round, (), ()), 12)
    progress.on_trained(
        0, {"loss": 2.0, "heldout_loss": 1.5, "heldout_rows": {"a": (3.0, 2)}, "seconds": {"step": 3.0}}
    )
    assert (progress.rounds[0].training_loss, progress.rounds[0].heldout_loss) == (2.0, 1.5)
    assert progress.rounds[0].seconds == {"harvest": 4.0, "training": 3.0}
    assert progress.rounds[1].training_loss is None
    assert progress.best_version == 1


def test_a_round_whose_metrics_were_lost_is_still_told(progress):
    progress.on_closed(harvest(), RoundClosed(0, (), ()), 12)
    progress.on_trained(0, {})
    assert progress.rounds[0].training_loss is None
    assert progress.best_version is None


# Metrics of a harvest under way.


def test_every_outcome_and_token_of_a_harvest_is_news_once():
    news, under_way = HarvestNews(), harvest(outcomes=OUTCOMES[:2])
    under_way.model_tokens.update({"answer/near": 90})
    outcomes, tokens = news.since_last(under_way)
    assert [outcome.ticket_id for _, outcome in outcomes] == ["t0", "t1"] and tokens == {"answer/near": 90}
    assert news.since_last(under_way) == ([], {})
    under_way.outcomes.append(OUTCOMES[2])
    under_way.domains.append("Arts")
    under_way.model_tokens.update({"answer/near": 30, "sprout/far": 2})
    assert news.since_last(under_way) == ([("Arts", OUTCOMES[2])], {"answer/near": 30, "sprout/far": 2})
    assert len(news.since_last(harvest(1))[0]) == 6


def test_the_end_of_a_driver_and_its_reason_are_recorded(tmp_path):
    run = RunDir(tmp_path / "run")
    with pytest.raises(DeadlineExceeded), RunProgress(config(run.location), run, time.time()) as progress:
        progress.restore(RecoveredState())
        raise DeadlineExceeded("the trainer to move on", 9.0, "see its logs")
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (
        last["kind"] == "ended" and last["error"].startswith("DeadlineExceeded: ") and "see its logs" in last["error"]
    )


def test_a_look_is_recorded_once_a_minute_and_after_a_round(tmp_path):
    run = RunDir(tmp_path / "run")
    look = TelemetryReading(replicas={"near": (2, 1)}, sources_left_out=("far",))
    with RunProgress(config(run.location), run, time.time()) as progress:
        progress.on_look(look)
        progress.on_look(look)
        progress.on_closed(harvest(), RoundClosed(0, (), ()), 12)
        progress.on_look(look)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["kind"] for record in records if record["kind"] in ("look", "round")] == ["look", "round", "look"]
    looks = [record for record in records if record["kind"] == "look"]
    assert looks[0]["replicas"] == {"near": {"wanted": 2, "up": 1}} and looks[0]["sources_left_out"] == ["far"]


# Cost.


def stats(name, prompt_tokens, decoded_tokens) -> EngineStats:
    return EngineStats(name, 0, 0, 1, prompt_tokens, decoded_tokens, 0.0, 1.0)


def test_only_remote_sources_cost_and_both_kinds_of_token_have_their_price():
    engines = [stats("far", 500_000, 100_000), stats("near", 10**9, 10**9), stats("target", 10**9, 10**9)]
    assert cost(config(), engines) == pytest.approx(500_000 * 2e-6 + 100_000 * 10e-6)


def test_what_a_replaced_engine_cost_stays_and_no_engine_counts_twice(progress):
    progress.on_engines({"far-0": stats("far", 10**6, 0)}, 0)
    progress.on_engines({"far-0": stats("far", 2 * 10**6, 0)}, 0)
    progress.on_engines({"far-1": stats("far", 0, 10**5)}, 1)
    assert progress.reached().cost == pytest.approx(4.0 + 1.0)


def test_costs_and_engines_stand_in_the_metrics(progress, tmp_path):
    progress.on_engines({"far-0": stats("far", 10**6, 0)}, 2)
    (line,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert (line["kind"], line["cost"], line["num_replaced"]) == ("engines", 2.0, 2)
    assert line["replicas"]["far-0"]["num_prompt_tokens"] == 10**6


def test_progress_is_shown_from_outcomes_that_are_in(progress):
    progress.on_harvest(replace(harvest(), num_tickets_done=6, num_tickets_issued=8))
