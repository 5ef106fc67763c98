"""The scale decision: tables for each rule, simulated loads, and properties over arbitrary ones."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bohdi_ray.placement.pools.scaling import Limits, Look, ScalingState, Tempo, decide, limiting_side

EVERY_S = 2.0
TEMPO = Tempo()
LIMITS = Limits(min_replicas=1, max_replicas=16, slots_per_replica=4)
STEADY = Look(0.0, 1, 0, 0, 0, 0.0, 0.0, "harvest", False, 0)


class Pool:
    """A pool under a scripted load: what was decided starts after `start_s` and drains for `drain_s`."""

    def __init__(self, size=1, limits=LIMITS, tempo=TEMPO, start_s=25.0, drain_s=10.0):
        self.limits, self.tempo, self.start_s, self.drain_s = limits, tempo, start_s, drain_s
        self.now_s, self.busy_s = 0.0, 0.0
        self.serving, self.starting, self.draining = size, [], []
        self.state = ScalingState()
        self.changes = []  # (time, from, to)
        self.looks = []

    @property
    def size(self):
        return self.serving + len(self.starting)

    def look(self, in_flight, **seen):
        self.now_s += EVERY_S
        self.serving += sum(at <= self.now_s for at in self.starting)
        self.starting = [at for at in self.starting if at > self.now_s]
        self.draining = [at for at in self.draining if at > self.now_s]
        self.busy_s = self.now_s if in_flight else self.busy_s
        look = replace(
            STEADY,
            now_s=self.now_s,
            num_serving=self.serving,
            num_starting=len(self.starting),
            num_draining=len(self.draining),
            in_flight=in_flight,
            idle_s=self.now_s - self.busy_s,
            **seen,
        )
        decision = decide(self.limits, self.tempo, self.state, look)
        self.state = decision.state
        self.looks.append((look, decision))
        assert bool(decision.reason) == (decision.replicas != look.size)
        if decision.replicas != look.size:
            self.changes.append((self.now_s, look.size, decision.replicas))
        while self.size < decision.replicas:
            self.starting.append(self.now_s + self.start_s)
        while self.size > decision.replicas:
            if self.starting:
                self.starting.pop()
            else:
                self.serving -= 1
                self.draining.append(self.now_s + self.drain_s)

    def run(self, seconds, in_flight, **seen):
        for _ in range(round(seconds / EVERY_S)):
            self.look(in_flight, **seen)
        return self


def test_a_doubled_load_is_answered_by_one_decision_right_after_its_confirmation():
    pool = Pool(size=4).run(200, in_flight=16)
    assert pool.changes == []
    doubled_s = pool.now_s
    pool.run(60, in_flight=32)
    [(at_s, before, after)] = pool.changes
    assert (before, after) == (4, 8)
    assert at_s - doubled_s <= TEMPO.grow_after_s + EVERY_S


@pytest.mark.parametrize(("seconds", "num_changes"), [(2, 0), (4, 0), (20, 1)], ids=["one look", "a burst", "lasting"])
def test_only_a_lasting_load_counts(seconds, num_changes):
    pool = Pool(size=2).run(100, in_flight=8).run(seconds, in_flight=60)
    pool.run(100, in_flight=8)
    assert len([change for change in pool.changes if change[2] > change[1]]) == num_changes


def test_gaps_in_the_load_do_not_hold_growth_up():
    pool = Pool(size=2).run(100, in_flight=8)
    for _ in range(4):
        pool.run(4, in_flight=16).run(2, in_flight=1)
    assert [change[1:] for change in pool.changes] == [(2, 4)]


def test_nothing_grows_before_the_first_window_is_full():
    pool = Pool(size=1).run(TEMPO.grow_after_s, in_flight=64)
    assert pool.changes == []
    assert pool.run(EVERY_S, in_flight=64).changes


def test_an_idle_pool_shrinks_to_the_minimum_once_it_was_idle_long_enough():
    pool = Pool(size=8, limits=replace(LIMITS, min_replicas=2)).run(20, in_flight=32)
    pool.run(TEMPO.shrink_after_s - 2 * EVERY_S, in_flight=0)
    assert pool.changes == []
    pool.run(3 * EVERY_S, in_flight=0)
    assert [change[1:] for change in pool.changes] == [(8, 2)]


def test_a_pool_that_is_busy_between_looks_only_keeps_a_replica():
    limits = Limits(1, 8, 4)
    state, look = ScalingState(), replace(STEADY, num_serving=3)
    for i in range(100):
        decision = decide(limits, TEMPO, state, replace(look, now_s=i * EVERY_S, idle_s=0.5))
        state = decision.state
        if decision.replicas != 3:
            break
    assert decision.replicas == 1
    assert all(need.to_shrink == 1 for need in state.needs[1:])


def test_shrinking_leaves_room_for_a_third_more():
    pool = Pool(size=16).run(200, in_flight=24)
    assert [change[1:] for change in pool.changes] == [(16, 8)]
    pool.run(200, in_flight=31)
    assert len(pool.changes) == 1


def test_shrinking_covers_the_highest_load_of_its_window():
    pool = Pool(size=16)
    for _ in range(10):
        pool.run(28, in_flight=3).run(2, in_flight=30)
    assert pool.changes[0][1:] == (16, 10)
    assert len(pool.changes) == 1


def test_requests_that_wait_though_there_seems_to_be_room_add_half_a_pool():
    pool = Pool(size=4).run(60, in_flight=10, queue_wait_s=5.0)
    assert [change[1:] for change in pool.changes][:1] == [(4, 6)]
    # Those that were added are waited for: serving is what waits are judged by.
    before_serving = [change for change in pool.changes if change[0] <= pool.changes[0][0] + pool.start_s]
    assert len(before_serving) == 1


@pytest.mark.parametrize("wait_s", [0.0, 0.5, TEMPO.tolerated_wait_s])
def test_a_tolerated_wait_adds_nothing(wait_s):
    assert Pool(size=4).run(60, in_flight=10, queue_wait_s=wait_s).changes == []


def test_waiting_requests_keep_a_pool_from_shrinking():
    assert not [c for c in Pool(size=8).run(300, in_flight=1, queue_wait_s=3.0).changes if c[2] < c[1]]


@pytest.mark.parametrize("harvest_waits", [False, True])
def test_nothing_grows_while_training_limits_the_run(harvest_waits):
    pool = Pool(size=2).run(300, in_flight=64, queue_wait_s=9.0, limiting_side="training", harvest_waits=harvest_waits)
    assert pool.changes == []
    pool.run(30, in_flight=64)
    assert pool.changes[0][2] == 16


def test_a_wait_for_the_trainer_is_no_idleness():
    pool = Pool(size=8)
    for round in range(5):
        pool.run(2, in_flight=0, round=round)  # the first tickets are not out yet
        pool.run(100, in_flight=32, round=round).run(400, in_flight=0, harvest_waits=True, round=round)
    assert pool.changes == []


def test_where_training_limits_a_pool_gives_back_what_the_round_did_not_need_and_then_is_steady():
    work = 8 * 100.0  # replica-seconds a round; training takes 200 s
    pool, rounds = Pool(size=8), []
    for round in range(8):
        harvest_s = work / pool.serving
        side = limiting_side(rounds[-1][1], sum(rounds[-1]), 1) if rounds else "harvest"
        pool.run(harvest_s, in_flight=4 * pool.serving, limiting_side=side, round=round)
        wait_s = max(0.0, 200.0 - harvest_s)
        pool.run(wait_s, in_flight=0, harvest_waits=True, limiting_side=side, round=round)
        rounds.append((harvest_s, wait_s))
    assert [change[1:] for change in pool.changes] == [(8, 6)]  # 4 needed on average, filled to three quarters


@pytest.mark.parametrize(
    ("wait_s", "round_s", "max_staleness", "side"),
    [
        (0.0, 0.0, 1, "harvest"),
        (0.0, 100.0, 1, "harvest"),
        (5.0, 100.0, 1, "harvest"),
        (5.1, 100.0, 1, "training"),
        (90.0, 100.0, 2, "training"),
        (90.0, 100.0, 0, "harvest"),
    ],
)
def test_which_side_limits(wait_s, round_s, max_staleness, side):
    assert limiting_side(wait_s, round_s, max_staleness) == side


@pytest.mark.parametrize(
    ("serving", "starting", "wanted"), [(0, 0, 2), (1, 0, 2), (1, 1, 2), (5, 0, 5), (9, 0, 6), (4, 4, 6)]
)
@pytest.mark.parametrize("side", ["harvest", "training"])
def test_a_size_outside_the_limits_is_brought_back_at_once(serving, starting, wanted, side):
    look = replace(STEADY, num_serving=serving, num_starting=starting, in_flight=100, limiting_side=side)
    assert decide(Limits(2, 6, 4), TEMPO, ScalingState(), look).replicas == wanted


def test_growth_does_not_use_the_room_of_what_still_drains():
    pool = Pool(size=4, limits=Limits(1, 8, 4), drain_s=10_000)
    pool.run(TEMPO.shrink_after_s + 4, in_flight=1)
    assert pool.changes[-1][2] == 1
    assert len(pool.draining) == 3
    pool.run(100, in_flight=32)
    assert pool.changes[-1][2] == 8 - 3


def test_a_start_that_came_to_nothing_is_asked_for_again_after_the_cool_down():
    pool = Pool(size=1).run(14, in_flight=8)
    assert [change[1:] for change in pool.changes] == [(1, 2)]
    pool.starting.clear()  # no room, given up
    pool.run(60, in_flight=8)
    first, second = pool.changes
    assert second[1:] == (1, 2)
    assert second[0] - first[0] == TEMPO.cooldown_s


@pytest.mark.parametrize("half_period_s", [4, 10, 30, 60, 100])
def test_a_square_wave_faster_than_the_shrink_window_makes_one_change(half_period_s):
    pool = Pool(size=2)
    while pool.now_s < 3600:
        pool.run(half_period_s, in_flight=8).run(half_period_s, in_flight=32)
    assert len(pool.changes) <= 1, pool.changes


@pytest.mark.parametrize("half_period_s", [150, 300, 900])
def test_a_slow_square_wave_makes_at_most_two_changes_a_period(half_period_s):
    pool = Pool(size=2)
    for _ in range(8):
        pool.run(half_period_s, in_flight=8).run(half_period_s, in_flight=32)
    assert 2 <= len(pool.changes) <= 2 * 8, pool.changes


def test_the_memory_of_a_pool_is_bounded():
    pool = Pool(size=2).run(4000, in_flight=8)
    assert len(pool.state.needs) <= TEMPO.shrink_after_s / EVERY_S + 2


def test_time_does_not_run_backwards():
    state = decide(LIMITS, TEMPO, ScalingState(), replace(STEADY, now_s=5.0)).state
    with pytest.raises(ValueError, match="a look at 4"):
        decide(LIMITS, TEMPO, state, replace(STEADY, now_s=4.0))


@pytest.mark.parametrize("bad", [(0, 1, 1), (2, 1, 1), (1, 1, 0)])
def test_impossible_limits_are_refused(bad):
    with pytest.raises(ValueError, match="1 <= min_replicas"):
        Limits(*bad)


loads = st.lists(
    st.tuples(
        st.integers(1, 30),  # looks
        st.integers(0, 120),  # requests in flight
        st.sampled_from([0.0, 0.5, 4.0]),  # wait for a turn
        st.sampled_from(["harvest", "training"]),
        st.booleans(),  # the harvest waits
        st.integers(0, 1),  # rounds that end before
    ),
    min_size=1,
    max_size=25,
)


@st.composite
def pools(draw):
    least = draw(st.integers(1, 4))
    limits = Limits(least, draw(st.integers(least, 12)), draw(st.integers(1, 8)))
    size = draw(st.integers(limits.min_replicas, limits.max_replicas))
    return Pool(size, limits, start_s=draw(st.sampled_from([0, 20, 300])), drain_s=draw(st.sampled_from([0, 300])))


@given(pools(), loads)
@settings(max_examples=150)
def test_whatever_the_load_the_rules_hold(pool, load):
    round = 0
    for num_looks, in_flight, wait_s, side, waits, more in load:
        round += more
        pool.run(
            num_looks * EVERY_S, in_flight, queue_wait_s=wait_s, limiting_side=side, harvest_waits=waits, round=round
        )
    changes = []
    for look, decision in pool.looks:
        assert pool.limits.min_replicas <= decision.replicas <= pool.limits.max_replicas
        held = look.size + look.num_draining
        if decision.replicas > look.size:
            changes.append(look.now_s)
            assert look.limiting_side == "harvest" and not look.harvest_waits
            assert decision.replicas + look.num_draining <= max(held, pool.limits.max_replicas)
        if decision.replicas < look.size:
            changes.append(look.now_s)
            assert decision.replicas >= math.ceil(look.in_flight / pool.limits.slots_per_replica)
    assert all(later - earlier >= TEMPO.cooldown_s for earlier, later in itertools.pairwise(changes))


@given(st.integers(1, 8), st.integers(1, 16))
def test_any_steady_load_is_met_and_then_nothing_changes(slots, in_flight):
    pool = Pool(size=1, limits=Limits(1, 16, slots)).run(600, in_flight=in_flight)
    needed = math.ceil(in_flight / slots)
    assert pool.size == min(16, needed)
    assert len(pool.changes) <= 1
