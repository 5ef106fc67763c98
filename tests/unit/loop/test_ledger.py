"""What a run has come to and what is decided by it: held-out gain in pairs, a round's counters, stop rules, cost."""

import json
import time

import pytest
from driven import driven

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.round_figures import HarvestResult, round_summary
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.errors import DeadlineExceeded
from bohdi_ray.evaluation.heldout_trail import HeldoutTrail
from bohdi_ray.observe.summary import RoundSummary
from bohdi_ray.records import Outcome
from bohdi_ray.rounds import RunLedger
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.state import DriverState, TrainedRound

REMOTE = {
    "kind": "openai",
    "name": "far",
    "model": "far",
    "base_url": "http://localhost:1/v1",
    "price_per_million_prompt_tokens": 2.0,
    "price_per_million_output_tokens": 10.0,
}


def config(run_dir="runs/none", **changes) -> FusionConfig:
    return FusionConfig.model_validate(
        {
            "run_dir": str(run_dir),
            "sources": [{"kind": "vllm", "name": "near", "model": "./none"}, REMOTE],
            "target": {"name": "target", "model": "./none"},
            "observe": {"console": "quiet"},
            **changes,
        }
    )


def summary(round: int, accepted: int = 3, **fields) -> RoundSummary:
    return RoundSummary(round, round, accepted, accepted, tokens={"answer": 100}, seconds={"harvest": 4.0}, **fields)


def ledger_with(num_rounds: int, state: DriverState | None = None, newest_version: int = 0, **changes) -> RunLedger:
    """A ledger whose driver has just started, after so many rounds that earlier ones harvested."""
    return RunLedger(config(**changes), time.time(), state, [summary(r) for r in range(num_rounds)], newest_version)


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


def test_progress_adds_up_the_rounds():
    ledger = ledger_with(0)
    for round in range(2):
        ledger.add_harvested(round_summary(harvest(round), num_rows=12), 10.0, 14.0)
    progress = ledger.progress()
    assert (progress.rounds, progress.samples, progress.decoded_tokens) == (2, 6, 2 * 166)
    assert 0 <= progress.wall_time_s < 60 and (progress.cost, progress.rounds_without_gain) == (0, 0)


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ({"rounds": 3}, None),
        ({"rounds": 2}, "stop.rounds = 2"),
        ({"samples": 6}, "stop.samples = 6"),
        ({"decoded_tokens": 200}, "stop.decoded_tokens = 200"),
        ({"wall_time_s": 60}, "stop.wall_time_s = 60"),
        ({"cost": 2}, "stop.cost = 2"),
        ({"no_gain_rounds": 4}, "stop.no_gain_rounds = 4"),
        ({"no_gain_rounds": 5}, None),
    ],
)
def test_a_stop_rule_ends_the_harvests_and_what_is_closed_is_still_trained(stop, reason):
    state = DriverState(wall_time_s=90, rounds_without_gain=4, engines={"0/far-0": stats("far", 10**6, 0)})
    ledger = ledger_with(2, state, stop=stop)
    ledger.check_stop_rules()
    assert ledger.schedule.stop_reason == reason and not ledger.schedule.done
    for _ in range(2):
        ledger.add_trained({})
    assert ledger.schedule.done == (reason is not None)
    assert ledger.schedule.next_harvest() == (None if reason else 2)


def test_the_first_reason_to_stop_stays():
    ledger = ledger_with(1, stop={"rounds": 1, "samples": 4})
    ledger.check_stop_rules()
    ledger.add_harvested(summary(1), 0.0, 1.0)
    ledger.check_stop_rules()
    assert ledger.schedule.stop_reason == "stop.rounds = 1"


def test_figures_of_training_reach_the_round_they_belong_to_and_the_trail():
    ledger = ledger_with(2)
    metrics = {"loss": 2.0, "heldout_loss": 1.5, "heldout_rows": {"a": (3.0, 2)}, "seconds": {"step": 3.0}}
    trained = ledger.add_trained(metrics)
    assert trained == ledger.rounds[0] and (trained.training_loss, trained.heldout_loss) == (2.0, 1.5)
    assert trained.seconds == {"harvest": 4.0, "training": 3.0}
    assert ledger.rounds[1].training_loss is None
    assert (ledger.best_version, ledger.schedule.num_trained) == (1, 1)


def test_a_round_whose_metrics_were_lost_counts_as_trained():
    ledger = ledger_with(1)
    assert ledger.add_trained({}).training_loss is None
    assert ledger.best_version is None and ledger.schedule.num_trained == 1


def test_a_restored_round_gets_the_rows_that_its_rehearsal_added():
    ledger = ledger_with(2)
    ledger.add_rows(1, 15, 70)
    assert (ledger.rounds[1].training_rows, ledger.rounds[1].tokens) == (15, {"answer": 100, "rehearsal": 70})
    assert ledger.rounds[0] == summary(0)


# What may be deleted.


@pytest.mark.parametrize(
    ("losses", "kept"),
    [
        ([3.0, 2.0, 1.0, 4.0], [2, 3]),  # the newest, and the best: version 3
        ([1.0, 2.0, 3.0, 4.0], [0, 2, 3]),  # the best one is version 1; round 4 is harvested with version 3
        ([None, None, None, None], [2, 3]),  # nothing is held out
    ],
)
def test_checkpoints_that_may_be_deleted_are_neither_new_nor_best_nor_in_use(losses, kept):
    ledger = ledger_with(4, training={"keep_checkpoints": 1})
    for loss in losses:
        ledger.add_trained({"heldout_rows": {} if loss is None else {"a": (loss, 1)}})
    assert ledger.checkpoints_to_delete(range(4), range(4)) == [round for round in range(4) if round not in kept]


def test_nothing_is_deleted_before_all_that_was_trained_is_taken_in():
    ledger = ledger_with(3, DriverState(trained={0: TrainedRound()}), newest_version=3)
    may = [ledger.may_delete_checkpoints]
    for _ in range(2):
        ledger.add_trained({})
        may.append(ledger.may_delete_checkpoints)
    assert may == [False, False, True]


# What is saved.


def test_a_later_driver_continues_from_what_is_saved():
    ledger = ledger_with(2)
    ledger.add_engines({"far-0": stats("far", 10**6, 0)})
    now = time.monotonic()
    ledger.intervals.record("harvest", now - 8, now - 4)
    ledger.add_trained({"loss": 2.0, "heldout_rows": {"a": (3.0, 2)}, "seconds": {"step": 3.0}})
    state = ledger.state()
    later = RunLedger(config(), time.time(), state, ledger.rounds, 1)
    assert (later.num_drivers, later.schedule.num_trained, later.best_version, later.cost) == (1, 1, 1, 2.0)
    assert later.seconds()["harvest"] == pytest.approx(4.0, abs=0.1)
    again = later.state()
    assert (again.num_drivers, again.trained, again.harvest_s) == (2, state.trained, state.harvest_s)
    assert again.best_rows == state.best_rows == {"a": (3.0, 2)} and again.engines == state.engines


def test_time_between_drivers_does_not_count():
    ledger = RunLedger(config(), time.time(), DriverState(wall_time_s=90, spans={"harvest": [(10.0, 50.0)]}))
    seconds = ledger.seconds()
    assert seconds["total"] == pytest.approx(90, abs=5) and seconds["harvest"] == pytest.approx(40)
    assert "rehearsal" not in seconds and seconds["weights"] == 0


# Events of a harvest under way.


def test_every_outcome_and_token_of_a_harvest_is_new_once():
    under_way = harvest(outcomes=OUTCOMES[:2])
    under_way.model_tokens.update({"answer/near": 90})
    event = under_way.moved()
    assert [outcome.ticket_id for _, outcome in event.new_outcomes] == ["t0", "t1"]
    assert event.new_tokens == {"answer/near": 90} and event.reward_rate == 0.5
    assert (under_way.moved().new_outcomes, under_way.moved().new_tokens) == ((), {})
    under_way.outcomes.append(OUTCOMES[2])
    under_way.domains.append("Arts")
    under_way.model_tokens.update({"answer/near": 30, "sprout/far": 2})
    event = under_way.moved()
    assert event.new_outcomes == (("Arts", OUTCOMES[2]),)
    assert event.new_tokens == {"answer/near": 30, "sprout/far": 2}


def test_the_end_of_a_driver_and_its_reason_are_recorded(tmp_path):
    def fail(active) -> None:
        raise DeadlineExceeded("progress of the trainer", 9.0, "see its logs")

    run = RunDir(tmp_path / "run")
    with pytest.raises(DeadlineExceeded):
        driven(config(run.location), run, fail)
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (
        last["kind"] == "ended" and last["error"].startswith("DeadlineExceeded: ") and "see its logs" in last["error"]
    )
    assert last["stop_reason"] is None


# Cost.


def stats(name, prompt_tokens, decoded_tokens) -> EngineStats:
    return EngineStats(name, 0, 0, 1, prompt_tokens, decoded_tokens, 0.0, 1.0)


def test_only_remote_sources_cost_and_both_kinds_of_token_have_their_price():
    engines = [stats("far", 500_000, 100_000), stats("near", 10**9, 10**9), stats("target", 10**9, 10**9)]
    ledger = ledger_with(0)
    ledger.add_engines({one.name: one for one in engines})
    assert ledger.cost == pytest.approx(500_000 * 2e-6 + 100_000 * 10e-6)


def test_what_a_replaced_engine_cost_stays_and_no_engine_counts_twice():
    ledger = ledger_with(0)
    ledger.add_engines({"far-0": stats("far", 10**6, 0)})
    ledger.add_engines({"far-0": stats("far", 2 * 10**6, 0)})
    ledger.add_engines({"far-1": stats("far", 0, 10**5)})
    assert ledger.cost == ledger.progress().cost == pytest.approx(4.0 + 1.0)


def test_costs_and_engines_are_in_the_metrics(tmp_path):
    run = RunDir(tmp_path / "run")
    driven(config(run.location), run, lambda active: active.add_engines({"far-0": stats("far", 10**6, 0)}, 2))
    line, _ = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert (line["kind"], line["cost"], line["num_replaced"]) == ("engines", 2.0, 2)
    assert line["replicas"]["far-0"]["num_prompt_tokens"] == 10**6
