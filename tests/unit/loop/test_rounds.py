"""Which round may harvest or train, which weights must stay, and when a run is over."""

import pytest

from bohdi_ray.config import StopConfig
from bohdi_ray.rounds import Progress, Rounds, harvest_version, stop_reason


def at(staleness, num_closed, num_trained) -> Rounds:
    return Rounds(staleness, num_closed=num_closed, num_trained=num_trained)


@pytest.mark.parametrize(("staleness", "versions"), [(0, [0, 1, 2, 3, 4]), (1, [0, 0, 1, 2, 3]), (2, [0, 0, 0, 1, 2])])
def test_round_r_harvests_with_version_r_minus_staleness_and_never_below_0(staleness, versions):
    assert [harvest_version(round, staleness) for round in range(5)] == versions


@pytest.mark.parametrize("staleness", [0, 1, 2])
def test_at_most_staleness_closed_rounds_wait_for_their_training_when_a_harvest_starts(staleness):
    for num_closed in range(8):
        for num_trained in range(num_closed + 1):
            may = at(staleness, num_closed, num_trained).next_harvest() is not None
            assert may == (num_closed - num_trained <= staleness)


def test_without_staleness_harvest_and_training_alternate():
    rounds, order = Rounds(0), []
    while len(order) < 6:
        if (round := rounds.next_harvest()) is None:
            order.append(("train", rounds.num_trained))
            rounds.trained(rounds.num_trained)
        else:
            order.append(("harvest", round))
            rounds.closed(round)
    assert order == [(what, r) for r in range(3) for what in ("harvest", "train")]


def test_rounds_are_closed_and_trained_one_after_another():
    rounds = Rounds(1)
    with pytest.raises(AssertionError):
        rounds.closed(1)
    with pytest.raises(AssertionError):
        rounds.trained(0)  # not harvested yet
    rounds.closed(0)
    with pytest.raises(AssertionError):
        rounds.closed(0)
    rounds.trained(0)
    with pytest.raises(AssertionError):
        rounds.trained(0)


def test_after_a_stop_nothing_is_harvested_but_what_is_closed_is_still_trained():
    rounds = at(1, 2, 1)
    rounds.stop("stop.rounds = 2")
    rounds.stop("stop.cost = 1")
    assert rounds.stop_reason == "stop.rounds = 2"
    assert rounds.next_harvest() is None
    assert not rounds.done
    rounds.trained(1)
    assert rounds.done


def test_without_a_reason_to_stop_a_run_is_never_done():
    assert not Rounds(0).done
    assert not at(0, 3, 3).done


@pytest.mark.parametrize(
    ("staleness", "num_closed", "num_trained", "versions"),
    [
        (0, 0, 0, {0}),
        (0, 3, 3, {0, 3}),
        (1, 3, 2, {0, 2, 3}),
        (1, 3, 3, {0, 2, 3}),
        (2, 5, 4, {0, 3, 4, 5}),
        (2, 5, 0, {0, 3, 4, 5}),
        (2, 5, 5, {0, 3, 4, 5}),
    ],
)
def test_versions_kept_are_0_and_those_a_harvest_may_ask_for(staleness, num_closed, num_trained, versions):
    assert at(staleness, num_closed, num_trained).versions_in_use() == versions


@pytest.mark.parametrize("staleness", [0, 1, 2])
def test_no_version_that_a_later_harvest_uses_is_ever_given_up(staleness):
    rounds, deleted = Rounds(staleness), set()
    for _ in range(30):
        if (round := rounds.next_harvest()) is None:
            rounds.trained(rounds.num_trained)
        else:
            assert harvest_version(round, staleness) not in deleted
            rounds.closed(round)
        deleted |= set(range(rounds.num_trained + 1)) - rounds.versions_in_use()
    assert deleted


NOTHING = {"rounds": 0, "samples": 0, "decoded_tokens": 0, "wall_time_s": 0.0, "cost": 0.0, "rounds_without_gain": 0}


@pytest.mark.parametrize(
    ("rule", "limit", "counter", "below", "words"),
    [
        ("rounds", 3, "rounds", 2, "stop.rounds = 3"),
        ("samples", 100, "samples", 99, "stop.samples = 100"),
        ("decoded_tokens", 10**6, "decoded_tokens", 10**6 - 1, "stop.decoded_tokens = 1000000"),
        ("wall_time_s", 60.0, "wall_time_s", 59.9, "stop.wall_time_s = 60"),
        ("cost", 2.5, "cost", 2.4, "stop.cost = 2.5"),
        ("no_gain_rounds", 2, "rounds_without_gain", 1, "stop.no_gain_rounds = 2"),
    ],
)
def test_each_rule_stops_at_its_limit_and_says_which_it_was(rule, limit, counter, below, words):
    stop = StopConfig(**{rule: limit})
    assert stop_reason(stop, Progress(**{**NOTHING, counter: below})) is None
    assert stop_reason(stop, Progress(**{**NOTHING, counter: limit})) == words
    assert stop_reason(stop, Progress(**{**NOTHING, counter: limit * 2})) == words


def test_a_rule_that_is_not_set_never_stops():
    endless = Progress(**{**{name: 10**9 for name in NOTHING}, "rounds": 18})
    assert stop_reason(StopConfig(), endless) is None
