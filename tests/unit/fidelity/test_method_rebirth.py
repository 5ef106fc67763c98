"""Introspection-Rebirth (method, section 6).

6.1   test_the_test_equals_five_worked_examples
6.2   test_the_test_equals_scipys_on_a_grid
6.3   test_a_rebirth_gives_beta_1_plus_s_1_plus_n_minus_s
6.4   test_only_full_windows_are_tested
6.4   test_no_window_is_tested_before_it_is_full
6.5   test_a_domain_is_reborn_only_if_p_is_strictly_below_u
6.6   test_introspection_runs_once_before_every_round_that_meets_another_target_and_before_no_other
6.7   test_every_domain_at_every_level_is_tested_and_neither_unk_nor_root
6.8   test_the_window_is_kept_over_a_rebirth
6.9   test_rewards_after_a_rebirth_keep_counting_and_the_history_begins_at_the_rebirth
"""

import math

import numpy as np
import pytest
from method_by_hand import (
    CHAIN,
    LEAF,
    ONE_CHILD,
    ByHand,
    by_scipy,
    described,
    make_config,
    posterior,
    rewards_on_a_chain,
    sample,
)

from bohdi_ray.rounds import harvest_version
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.policies import make_policy
from bohdi_ray.tree.policies.dynabranches import DynaBranches

EXAMPLES = [
    (31, 11, 8, 20, 10.953511, 9.342641e-4),
    (31, 11, 15, 20, 0.0, 1.0),
    (21, 21, 14, 20, 3.291315, 0.06964722),
    (101, 101, 20, 20, 27.725887, 1.397796e-7),
    (5, 17, 0, 20, 8.925742, 2.811791e-3),
]
ON_PATH = [LEAF[:1], LEAF[:2], LEAF]


def by_policy(alpha: float, beta: float, num_wins: int, num_rewards: int) -> tuple[float, float]:
    """What the default policy finds, for any p; (0, 1) where it finds nothing, for p = 1 is not below any u."""
    policy = make_policy(make_config(bandit={"threshold": 1, "window": num_rewards}).bandit)
    window = b"\1" * num_wins + b"\0" * (num_rewards - num_wins)
    changes = policy.introspect(np.array([alpha], float), np.array([beta], float), [window])
    return (changes[0].statistic, changes[0].p_value) if changes else (0.0, 1.0)


@pytest.mark.parametrize(("alpha", "beta", "num_wins", "num_rewards", "statistic", "p_value"), EXAMPLES)
def test_the_test_equals_five_worked_examples(alpha, beta, num_wins, num_rewards, statistic, p_value):
    assert by_policy(alpha, beta, num_wins, num_rewards) == (
        pytest.approx(statistic, rel=1e-6, abs=1e-12),
        pytest.approx(p_value, rel=1e-6),
    )


def test_the_test_equals_scipys_on_a_grid():
    """Windows without a win, or with wins only; histories without a win or a loss, which rule out the other."""
    checked = set()
    for num_rewards in (1, 7, 20):
        for num_wins in {0, 1, num_rewards // 2, num_rewards - 1, num_rewards}:
            for alpha, beta in ((1, 31), (31, 1), (2, 2), (9, 13), (31, 11), (400, 3), (1, 2)):
                statistic, p_value = by_policy(alpha, beta, num_wins, num_rewards)
                expected = by_scipy(alpha, beta, num_wins, num_rewards)
                assert statistic == pytest.approx(expected[0], rel=1e-9, abs=1e-9)
                assert p_value == pytest.approx(expected[1], rel=1e-7, abs=1e-300)
                checked.add((alpha == 1, beta == 1, num_wins == 0, num_wins == num_rewards, math.isinf(statistic)))
    assert {
        (True, False, True, False, False),  # p0 = 0 and S = 0: nothing new
        (True, False, False, True, True),  # p0 = 0 and S = n: impossible before
        (False, True, False, True, False),  # p0 = 1 and S = n
        (False, True, True, False, True),  # p0 = 1 and S = 0
        (False, False, True, False, False),
        (False, False, False, True, False),
    } <= checked


# 20 wins, then 20 losses: p0 = 1/2, a window of losses only.
CHANGED = [1] * 20 + [0] * 20


@pytest.mark.parametrize(
    ("rewards", "after"),
    [(CHANGED, (1, 21)), (CHANGED[::-1], (21, 1)), ([1] * 60 + [1, 0, 0, 0] * 5, (6, 16))],
)
def test_a_rebirth_gives_beta_1_plus_s_1_plus_n_minus_s(rewards, after):
    hand = rewards_on_a_chain(rewards)
    before = (1 + sum(rewards), 1 + len(rewards) - sum(rewards))
    reborn = hand.close(version=1).reborn
    assert [(r.path, r.before, r.after) for r in reborn] == [(path, before, after) for path in ON_PATH]
    assert [posterior(hand.node(*path)) for path in ON_PATH] == [after] * 3
    window = rewards[-20:]
    assert (reborn[0].statistic, reborn[0].p_value) == pytest.approx(by_scipy(*before, sum(window), 20))


@pytest.mark.parametrize(("window", "is_full"), [(39, True), (40, True), (41, False)])
def test_only_full_windows_are_tested(window, is_full):
    # A threshold of 1 finds any change; with w = 40 the window is the whole history and p = 1, which is no change.
    hand = rewards_on_a_chain(CHANGED, bandit={"window": window, "threshold": 1})
    assert (hand.close(version=1).reborn != ()) == (is_full and window < 40)


def test_no_window_is_tested_before_it_is_full():
    """Until then the window is the whole history and p is 1 anyway, so what is asked has to be watched."""
    asked = []

    class Watched(DynaBranches):
        def introspect(self, alpha, beta, windows):
            asked.append([len(window) for window in windows])
            return super().introspect(alpha, beta, windows)

    for num_rewards in (19, 20, 33):
        hand = ByHand(CHAIN, tree=ONE_CHILD, meditation={"steps": 1, "walks_per_step": num_rewards})
        hand.manager = TreeManager(hand.config, CHAIN, Watched(hand.config.bandit))
        hand.commit(lambda ticket: sample(ticket, ticket.index % 2))
        hand.close(version=1)
    assert asked == [[], [20] * 3, [20] * 3]


def test_a_domain_is_reborn_only_if_p_is_strictly_below_u():
    p_value = rewards_on_a_chain(CHANGED, bandit={"threshold": 1}).close(version=1).reborn[0].p_value
    assert 0 < p_value < 0.2

    def is_reborn(threshold):
        return rewards_on_a_chain(CHANGED, bandit={"threshold": threshold}).close(version=1).reborn != ()

    assert is_reborn(math.nextafter(p_value, 1))
    assert not is_reborn(p_value) and not is_reborn(math.nextafter(p_value, 0))
    # p = 1, a window that is like its history, is not below u = 1.
    same = rewards_on_a_chain([1, 0] * 20, bandit={"threshold": 1})
    assert same.close(version=1).reborn == ()


@pytest.mark.parametrize(("staleness", "expected"), [(0, [True] * 4), (1, [False, True, True, True])])
def test_introspection_runs_once_before_every_round_that_meets_another_target_and_before_no_other(staleness, expected):
    """Each round brings a window that is unlike what came before, so that introspection always finds something."""
    many = {"steps": 1, "walks_per_step": 40}
    hand = ByHand(CHAIN, tree=ONE_CHILD, meditation=many)
    found = []
    for round in range(4):
        hand.commit(lambda ticket, odd=round % 2: sample(ticket, int((ticket.index < 20) != odd)))
        closed = hand.close(harvest_version(round + 1, staleness))
        again = hand.manager.close_round(round + 1, harvest_version(round + 1, staleness))
        assert again == closed, "closing twice tests once"
        found.append(closed.reborn != ())
    assert found == expected
    assert hand.manager.stats()["num_rebirths"] == 3 * sum(expected)
    off = rewards_on_a_chain(CHANGED, bandit={"introspection": False})
    assert off.close(version=1).reborn == ()


def test_every_domain_at_every_level_is_tested_and_neither_unk_nor_root():
    start = {"Aa": {"Ba": ["Ca"]}, "Ab": {"Bb": ["Cb"]}}
    many = {"steps": 1, "walks_per_step": 240}
    hand = ByHand(start, tree={"depth": 3, "max_children": (2, 1, 1)}, meditation=many)
    seen: dict[str, int] = {}

    def outcome(ticket):
        seen[ticket.path[0]] = seen.get(ticket.path[0], 0) + 1
        # Under Aa the last 20 rewards change; under Ab they are like the others.
        total = sum(t.path[0] == ticket.path[0] for t in tickets)
        if ticket.path[0] == "Aa":
            return sample(ticket, int(seen["Aa"] <= total - 20))
        return sample(ticket, seen["Ab"] % 2)

    tickets = hand.tickets()
    assert {ticket.path[0] for ticket in tickets} == {"Aa", "Ab"}
    unk = {path: node["unk"] for path, node in described(hand.manager).items()}
    hand.commit(outcome)
    closed = hand.close(version=1)
    assert [rebirth.path for rebirth in closed.reborn] == [("Aa",), ("Aa", "Ba"), ("Aa", "Ba", "Ca")]
    assert {path: node["unk"] for path, node in described(hand.manager).items()} == unk
    assert posterior(hand.node()) == (1, 1)


def test_the_window_is_kept_over_a_rebirth():
    hand = rewards_on_a_chain(CHANGED)
    assert hand.close(version=1).reborn
    assert [hand.node(*path)["window"] for path in ON_PATH] == [[0] * 20] * 3


def test_rewards_after_a_rebirth_keep_counting_and_the_history_begins_at_the_rebirth():
    hand = rewards_on_a_chain(CHANGED)
    hand.close(version=1)
    more = [1] * 5 + [0] * 35  # as many tickets as in the round before
    hand.commit(lambda ticket: sample(ticket, more[ticket.index]))
    leaf = hand.node(*LEAF)
    assert posterior(leaf) == (1 + 5, 1 + 20 + 35), "the reborn window and what came since"
    assert leaf["window"] == more[-20:] and leaf["num_samples"] == 80
    # p0 is 5 of 60, not 25 of 80: a window of losses only is a change from the first, not at u = 0.05 from it.
    statistic, p_value = by_scipy(6, 56, 0, 20)
    reborn = hand.close(version=2).reborn
    assert [rebirth.p_value for rebirth in reborn] == pytest.approx([p_value] * 3)
    assert reborn[0].statistic == pytest.approx(statistic) != by_scipy(26, 56, 0, 20)[0]
    assert posterior(hand.node(*LEAF)) == (1, 21)
