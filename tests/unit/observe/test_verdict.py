"""Every state a run may be in has its verdict, its limit and its remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bohdi_ray.observe.health import Holder, PollFacts, RunFacts, judge_run

ALIVE = Holder("node:7", heartbeat_age_s=12.0, is_over=False)
LOOK = PollFacts(
    age_s=30.0,
    harvest_idle=0.02,
    training_idle=0.6,
    requests={"ada": 40, "bob": 30, "target": 0},
    replicas={"ada": (4, 4), "bob": (2, 2), "target": (1, 1)},
)
RUNNING = RunFacts("runs/x", holder=ALIVE, num_closed=3, num_trained=2, longest_training_s=100.0, poll=LOOK)

# Name: the facts; state, the limiting side, what the line must say.
CASES = {
    "finished": (RunFacts("r", finished="stop.rounds = 3"), "finished", None, ["because stop.rounds = 3"]),
    "stopped": (
        RunFacts("runs/x", ended="Interrupted: the run was asked to stop"),
        "stopped",
        None,
        ["no driver works on it", "Interrupted", "bohdi resume runs/x"],
    ),
    "never begun": (RunFacts("runs/x"), "stopped", None, ["no driver works on it; continue"]),
    "dead": (
        replace(RUNNING, holder=Holder("node:7", 400.0, is_over=True)),
        "driver dead",
        None,
        ["node:7", "7 min ago", "bohdi resume runs/x"],
    ),
    # A process that is gone counts at once, however young its heartbeat.
    "gone": (replace(RUNNING, holder=Holder("node:7", 3.0, is_over=True)), "driver dead", None, ["3 s ago"]),
    "silent": (replace(RUNNING, holder=Holder("node:7", 75.0, is_over=False)), "driver silent", None, ["75 s ago"]),
    # What is written at the end does not make a run finished while its driver writes on.
    "writing": (replace(RUNNING, finished="stop.rounds = 3"), "healthy", "harvest", ["harvest-bound"]),
    "stalled": (replace(RUNNING, training_for_s=301.0), "trainer stalled", None, ["round 2", "than 100 s", "logs"]),
    "slow but not stalled": (replace(RUNNING, training_for_s=299.0), "healthy", "harvest", []),
    "short rounds": (replace(RUNNING, longest_training_s=1.0, training_for_s=119.0), "healthy", "harvest", []),
    "first round": (replace(RUNNING, longest_training_s=None, training_for_s=1700.0), "healthy", "harvest", []),
    "first round, stalled": (
        replace(RUNNING, longest_training_s=None, training_for_s=1900.0),
        "trainer stalled",
        None,
        ["deadlines.train_step_s (30 min)"],
    ),
    "all trained": (replace(RUNNING, num_trained=3, training_for_s=9999.0), "healthy", "harvest", []),
    "left out": (
        replace(RUNNING, left_out={"far": "connection refused"}),
        "degraded",
        "harvest",
        ["without far (far: connection refused)", "fix"],
    ),
    "lacking": (
        replace(RUNNING, poll=replace(LOOK, replicas={**LOOK.replicas, "ada": (4, 3)}, lacking=("ada",))),
        "degraded",
        "harvest",
        ["ada 3 of 4"],
    ),
    # Per engine bob has 15 requests, ada 10.
    "harvest-bound": (RUNNING, "healthy", "harvest", ["idled 2%", "60%", "add replicas, first of bob"]),
    "training-bound": (
        replace(RUNNING, poll=replace(LOOK, harvest_idle=0.5, training_idle=0.0)),
        "healthy",
        "training",
        ["training-bound", "trainer more or faster workers"],
    ),
    "alternating": (
        replace(RUNNING, max_staleness=0, poll=replace(LOOK, harvest_idle=0.7, training_idle=0.3)),
        "healthy",
        "training",
        ["harvest.max_staleness: 1"],
    ),
    "balanced": (
        replace(RUNNING, poll=replace(LOOK, harvest_idle=0.1, training_idle=0.13)),
        "healthy",
        None,
        ["balanced"],
    ),
    "no look yet": (replace(RUNNING, poll=None), "healthy", None, ["too early"]),
    "an old look": (replace(RUNNING, poll=replace(LOOK, age_s=600.0)), "healthy", None, ["too early"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_has_its_verdict(name):
    facts, state, side, said = CASES[name]
    verdict = judge_run(facts)
    assert (verdict.state, verdict.limited_by) == (state, side)
    assert verdict.healthy == (state in ("finished", "healthy"))
    line = verdict.line()
    assert line.startswith(f"{state}: ") and "\n" not in line
    for part in said:
        assert part in line


def test_what_is_not_healthy_has_a_remedy():
    for facts, state, _, _ in CASES.values():
        if state not in ("finished", "healthy"):
            assert judge_run(facts).remedy
