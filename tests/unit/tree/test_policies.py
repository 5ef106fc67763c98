"""What every policy promises the tree, and what each does otherwise."""

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_fusion import ScriptedFusion, make_config, scripted_outcome, snapshot_of

from bohdi_ray.config import BANDITS
from bohdi_ray.randomness import generator
from bohdi_ray.tree.knowledge_tree import KnowledgeTree
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.policies import POLICIES, make_policy
from bohdi_ray.tree.policies.thompson import ThompsonSampling

NAMES = sorted(POLICIES)
RATES = (  # whose scores are draws or means of reward rates
    *("aged_thompson", "corrected_swblrt", "discounted_thompson", "dynabranches", "dynamic_thompson"),
    *("glr_thompson", "greedy", "sliding_window_thompson", "uniform"),
)
DETECTORS = ("corrected_swblrt", "dynabranches", "glr_thompson")
NUM_ARMS = 5
credits = st.lists(st.tuples(st.integers(1, NUM_ARMS), st.integers(0, 1)), max_size=60)


def policy_of(name, **settings):
    return make_policy(BANDITS[name](**settings))


def credited(policy, rewards):
    tree = KnowledgeTree(2)
    for letter in "ABCDE":
        tree.add(tree.root, letter)
    arms = tree.root.arms
    arms.alpha[0], arms.beta[0] = 7.0, 3.0
    for arm, reward in rewards:
        policy.credit(arms, arm, reward)
    return arms


def sums(rewards, weights=None):
    """1 + weighted wins, 1 + weighted losses of each child."""
    alpha, beta = np.ones(NUM_ARMS + 1), np.ones(NUM_ARMS + 1)
    for (arm, reward), weight in zip(rewards, weights or [1.0] * len(rewards), strict=True):
        alpha[arm] += weight * reward
        beta[arm] += weight * (1 - reward)
    return alpha[1:], beta[1:]


def children(arms):
    return arms.alpha[1 : NUM_ARMS + 1], arms.beta[1 : NUM_ARMS + 1]


def scores(policy, rng, alpha, beta):
    nothing = np.zeros(len(alpha), np.int64)
    return policy.scores(rng, alpha, beta, nothing, nothing)


def test_every_name_of_the_configuration_has_a_policy():
    assert POLICIES.keys() == BANDITS.keys()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(rewards=credits)
def test_posteriors_hold_at_least_the_prior_and_unk_is_left_alone(name, rewards):
    policy = policy_of(name)
    arms = credited(policy, rewards)
    policy.age(arms)
    assert (arms.alpha[0], arms.beta[0]) == (7.0, 3.0)
    for values in (arms.alpha, arms.beta):
        assert (values >= 1).all() and np.isfinite(values).all()
    found = scores(policy, np.random.default_rng(0), arms.alpha, arms.beta)
    assert found.shape == arms.alpha.shape and np.isfinite(found).all()
    if name in RATES:
        assert ((found >= 0) & (found <= 1 + 1e-9)).all()


@pytest.mark.parametrize(
    "name", ["dynabranches", "uniform", "greedy", "aged_thompson", "glr_thompson", "corrected_swblrt"]
)
@settings(max_examples=30)
@given(rewards=credits)
def test_most_policies_count_every_reward(name, rewards):
    arms = credited(policy_of(name), rewards)
    np.testing.assert_array_equal(children(arms), sums(rewards))
    assert arms.memory == b""


@given(credits, st.floats(0.05, 1))
def test_discounted_evidence_fades_with_every_later_credit_at_the_node(rewards, discount):
    arms = credited(policy_of("discounted_thompson", discount=discount), rewards)
    ages = [discount**age for age in reversed(range(len(rewards)))]
    np.testing.assert_allclose(children(arms), sums(rewards, ages), rtol=1e-9)


@given(credits, st.integers(1, 12))
def test_a_sliding_window_holds_the_last_credits_of_the_node(rewards, horizon):
    arms = credited(policy_of("sliding_window_thompson", horizon=horizon), rewards)
    np.testing.assert_array_equal(children(arms), sums(rewards[-horizon:]))
    entries = np.frombuffer(arms.memory, "<u4")
    assert [(int(entry) // 2, int(entry) % 2) for entry in entries] == rewards[-horizon:]


def test_a_sliding_window_knows_more_than_a_few_hundred_arms():
    tree = KnowledgeTree(2)
    for number in range(70_000):
        tree.add(tree.root, str(number))
    policy, arms = policy_of("sliding_window_thompson", horizon=1), tree.root.arms
    policy.credit(arms, 70_000, 1)
    assert arms.alpha[70_000] == 2
    policy.credit(arms, 1, 0)
    assert arms.alpha[70_000] == 1 and arms.beta[1] == 2


@given(credits, st.integers(1, 12))
def test_dynamic_evidence_counts_as_the_horizon_at_most(rewards, horizon):
    arms = credited(policy_of("dynamic_thompson", horizon=horizon), rewards)
    wins, losses = np.zeros(NUM_ARMS + 1), np.zeros(NUM_ARMS + 1)
    for arm, reward in rewards:  # the update of the publication, on the evidence alone
        full = wins[arm] + losses[arm] > horizon - 1e-9
        share = horizon / (horizon + 1) if full else 1.0
        wins[arm], losses[arm] = share * (wins[arm] + reward), share * (losses[arm] + 1 - reward)
    np.testing.assert_allclose(children(arms), (1 + wins[1:], 1 + losses[1:]), rtol=1e-6)


@given(credits, st.floats(0.05, 1))
def test_aging_keeps_its_share_of_the_evidence_and_happens_in_no_other_policy(rewards, discount):
    policy = policy_of("aged_thompson", discount=discount)
    arms = credited(policy, rewards)
    policy.age(arms)
    np.testing.assert_allclose(children(arms), sums(rewards, [discount] * len(rewards)))
    assert [name for name in NAMES if policy_of(name).ages] == ["aged_thompson"]


def test_a_uniform_choice_ignores_what_was_learned():
    alpha, uniform = np.array([1.0, 100, 1]), policy_of("uniform")
    drawn = scores(uniform, np.random.default_rng(0), alpha, np.array([1.0, 1, 100]))
    rng = np.random.default_rng(1)
    winners = [int(scores(uniform, rng, alpha, np.ones(3)).argmax()) for _ in range(3000)]
    assert len(set(drawn.tolist())) == 3
    assert np.bincount(winners) == pytest.approx([1000] * 3, abs=120)


def test_greed_follows_the_best_mean_and_shares_ties():
    policy, rng = policy_of("greedy"), np.random.default_rng(0)
    assert scores(policy, rng, np.array([1.0, 501, 500]), np.array([1.0, 499, 500])).argmax() == 1
    tied = [int(scores(policy, rng, np.array([2.0, 1, 4]), np.array([4.0, 1, 4])).argmax()) for _ in range(2000)]
    assert np.bincount(tied, minlength=3) == pytest.approx([0, 1000, 1000], abs=120)


def domains(length, num=40, seed=0):
    """Posteriors and windows of domains half of which changed."""
    rng = np.random.default_rng(seed)
    window = [(rng.random(length) < (0.1 if i % 2 else 0.8)).astype(np.uint8).tobytes() for i in range(num)]
    wins = np.array([rewards.count(1) for rewards in window])
    old = rng.binomial(60, 0.8, num)
    return 1.0 + wins + old, 61.0 + length - wins - old, window


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_domains_changes_no_answer(name):
    policy = policy_of(name)
    alpha, beta, window = domains(20)
    order = np.random.default_rng(5).permutation(len(window))
    plain = {c.index: c for c in policy.introspect(alpha, beta, window)}
    other = policy.introspect(alpha[order], beta[order], [window[i] for i in order])
    assert {int(order[c.index]): (c.alpha, c.beta, c.statistic, c.p_value) for c in other} == {
        index: (c.alpha, c.beta, c.statistic, c.p_value) for index, c in plain.items()
    }
    assert policy.introspect(np.empty(0), np.empty(0), []) == []
    if name in ("dynabranches", "corrected_swblrt"):
        assert {index % 2 for index in plain} == {0, 1} if name == "dynabranches" else {1}
        assert len([index for index in plain if index % 2]) == 20
        for index, change in plain.items():
            wins = window[index].count(1)
            assert (change.alpha, change.beta) == (1 + wins, 21 - wins)
    elif name not in DETECTORS:
        assert plain == {} and policy.min_window > 10**9


def as_arrays(*posteriors):
    return (np.array([p[0] for p in posteriors], float), np.array([p[1] for p in posteriors], float))


def test_the_corrected_test_needs_a_history_before_the_window():
    policy = policy_of("corrected_swblrt", false_alarm_rate=0.9)
    losses = b"\0" * 20
    assert policy.introspect(*as_arrays((1, 21)), [losses]) == [], "the posterior is the window"
    assert len(policy.introspect(*as_arrays((21, 21)), [losses])) == 1


def test_domains_that_cannot_alarm_make_no_other_test_stricter():
    policy = policy_of("corrected_swblrt")
    window = b"\1" * 9 + b"\0" * 11  # 9 of 20 after 31 of 40: p is just below 0.05
    alpha, beta = as_arrays((1 + 9 + 31, 1 + 11 + 9))
    assert [change.index for change in policy.introspect(alpha, beta, [window])] == [0]
    reborn = as_arrays((10, 12)), [window] * 50  # fresh from a rebirth: no history
    with_reborn = policy.introspect(
        np.r_[reborn[0][0].repeat(50), alpha], np.r_[reborn[0][1].repeat(50), beta], [window] * 51
    )
    assert [change.index for change in with_reborn] == [50]
    calm = b"\1" * 15 + b"\0" * 5  # 50 real tests more, with nothing to see
    alphas, betas = as_arrays(*[(1 + 15 + 31, 1 + 5 + 9)] * 50)
    assert policy.introspect(np.r_[alphas, alpha], np.r_[betas, beta], [calm] * 50 + [window]) == []


def test_the_scan_restarts_from_the_rewards_after_the_change_and_forgets_those_before():
    policy = policy_of("glr_thompson")
    window = b"\1" * 60 + b"\0" * 30
    (change,) = policy.introspect(*as_arrays((161, 31)), [window])
    assert (change.alpha, change.beta) == (1, 31)
    assert change.statistic == pytest.approx(90 * np.log(90) - 60 * np.log(60) - 30 * np.log(30))
    assert 0 < change.p_value < 1e-9
    # Reborn, it does not meet the old rewards in its window again, but a new change it does.
    assert policy.introspect(*as_arrays((change.alpha, change.beta)), [window]) == []
    later = window + b"\1" * 30
    (again,) = policy.introspect(*as_arrays((31, 31)), [later])
    assert (again.alpha, again.beta) == (31, 1)


def fusion_config(name):
    own = {
        "dynabranches": {"window": 4, "threshold": 0.9},
        "corrected_swblrt": {"window": 3, "false_alarm_rate": 0.95},
        "glr_thompson": {"window": 60, "false_alarm_rate": 0.99},
        "sliding_window_thompson": {"horizon": 6},
        "dynamic_thompson": {"horizon": 3},
        "discounted_thompson": {"discount": 0.8},
    }
    return make_config(tree={"depth": 2, "max_children": (3, 3)}, bandit={"kind": name, **own.get(name, {})})


class ShiftingFusion(ScriptedFusion):
    """The target wins nearly always in the first two rounds, hardly ever afterwards."""

    def commit(self, step: int) -> None:
        work = self.manager.work(0)
        outcomes = []
        for ticket in work.tickets:
            if ticket.step == step:
                outcome, rng = scripted_outcome(ticket), generator(13, ticket.ticket_id)
                reward = int(rng.random() < (0.1 if ticket.round < 2 else 0.9))
                outcomes.append(outcome if outcome.failure else dataclasses.replace(outcome, reward=reward))
        self.order.shuffle(outcomes)
        self.manager.commit_step(step, self.manager.screen(step, outcomes), f"part-{work.round}-{step}")
        self.point()


def fusion(name, seed, **more):
    manager = more.pop("manager", None) or TreeManager(fusion_config(name))
    return ShiftingFusion(manager, num_rounds=4, order=random.Random(seed), **more)


@pytest.fixture(scope="module")
def plain_runs():
    return {name: fusion(name, 0).run() for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32), num_turns=st.integers(0, 60))
def test_a_fusion_ends_the_same_in_any_order_and_after_any_death(plain_runs, name, seed, num_turns):
    plain, config = plain_runs[name], fusion_config(name)
    run = fusion(name, seed)
    for _ in range(num_turns):
        if run.manager.stats()["round"] == 4:
            break
        run.turn()
    replayed = TreeManager.replay(config, None, run.segments)
    assert replayed.digest() == run.manager.digest()
    resumed = fusion(name, seed + 1, manager=replayed).run()
    assert run.digests + resumed.digests == plain.digests
    assert run.closed + resumed.closed == plain.closed


@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_holds_what_the_policy_knows(plain_runs, name):
    plain = plain_runs[name]
    run = fusion(name, 1, max_commits=len(plain.digests) // 2).run()
    restored = TreeManager.restore(fusion_config(name), snapshot_of(run.manager))
    assert run.digests + fusion(name, 2, manager=restored).run().digests == plain.digests


def test_policies_are_as_different_as_their_names(plain_runs):
    """Guards the tests above: the runs reach rebirths, aging and memories, and every policy steers in its own way."""
    assert len({run.digests[-1] for run in plain_runs.values()}) == len(NAMES)
    reborn = {name for name, run in plain_runs.items() if run.manager.stats()["num_rebirths"]}
    assert reborn == set(DETECTORS)
    assert len(plain_runs["sliding_window_thompson"].manager.tree.root.arms.memory) == 4 * 6
    arms = plain_runs["aged_thompson"].manager.tree.root.arms
    assert arms.alpha[1] % 1 != 0


def paths_by_step(manager, num_rounds=2):
    """By step the leaves that its walks ended in."""
    found, run = {}, ScriptedFusion(manager, num_rounds=num_rounds, order=random.Random(0))
    while manager.stats()["round"] < num_rounds:
        for ticket in manager.work(0).tickets:
            found.setdefault((ticket.round, ticket.step), {})[ticket.index] = ticket.path
        run.turn()
    return {step: [paths[index] for index in sorted(paths)] for step, paths in found.items()}


def grown(policy, lag=1):
    """A fusion over a tree in which nothing can sprout."""
    config = make_config(
        tree={"depth": 2, "max_children": (3, 3)},
        meditation={"steps": 4, "walks_per_step": 12},
        harvest={"step_lag": lag},
    )
    return TreeManager(config, {"Ab": ["Cd", "Ef", "Gh"], "Ij": ["Kl", "Mn", "Op"], "Qr": ["St", "Uv", "Wx"]}, policy)


class BestMean(ThompsonSampling):
    """The largest mean, in fixed order: as deterministic as can be, and it does not say so."""

    def scores(self, rng, alpha, beta, plays, in_flight):
        return alpha / (alpha + beta) - 1e-6 * np.arange(len(alpha))


class Ucb(ThompsonSampling):
    """UCB1 that counts walks under way as plays: as deterministic, but it spreads a step's walks."""

    def scores(self, rng, alpha, beta, plays, in_flight):
        num = plays + in_flight + 1
        return alpha / (alpha + beta) + np.sqrt(2 * np.log(num.sum() + 1) / num)


def gathers(policy):
    """Whether all walks of some step ended in one leaf."""
    return any(len(set(paths)) == 1 for paths in paths_by_step(grown(policy)).values())


@pytest.mark.parametrize("name", NAMES)
def test_the_walks_of_a_step_end_in_more_than_one_leaf_unless_the_policy_says_that_it_is_deterministic(name):
    policy = policy_of(name)
    assert policy.deterministic or not gathers(policy)
    assert [name for name in NAMES if policy_of(name).deterministic] == ["greedy"]


def test_walks_in_flight_are_what_spreads_a_policy_that_draws_nothing():
    """Guards the test above, which fails for the one and passes for the other."""
    assert gathers(BestMean(BANDITS["uniform"]()))
    assert not gathers(Ucb(BANDITS["uniform"]()))


class Watching(ThompsonSampling):
    """Notes what it is given at every choice of a node with all its children."""

    def __init__(self, config):
        super().__init__(config)
        self.seen = []

    def scores(self, rng, alpha, beta, plays, in_flight):
        assert alpha.shape == beta.shape == plays.shape == in_flight.shape
        self.seen.append((alpha + beta - 2, plays.copy(), in_flight.copy()))
        return super().scores(rng, alpha, beta, plays, in_flight)


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_plays_are_the_rewards_taken_in_and_walks_in_flight_those_without_reward(lag):
    policy = Watching(BANDITS["uniform"]())
    manager = grown(policy, lag)
    steps = paths_by_step(manager, num_rounds=1)
    for evidence, plays, _ in policy.seen:  # no held-out rewards are counted, and no evidence fades here
        np.testing.assert_array_equal(evidence, plays)
    most = max(int(in_flight.sum()) for _, _, in_flight in policy.seen)
    assert most == 12 * (lag + 1) - 1, "all walks of the steps that wait for credit, and this step's before"
    assert len(steps) == 4


@pytest.mark.parametrize("seed", range(4))
def test_walks_in_flight_do_not_depend_on_when_proposals_arrive(seed):
    def run(order):
        config = make_config(meditation={"steps": 3, "walks_per_step": 10}, harvest={"step_lag": 1})
        manager = TreeManager(config, None, Ucb(BANDITS["uniform"]()))
        return ScriptedFusion(manager, num_rounds=3, order=random.Random(order)).run().digests

    assert run(seed) == run(100)
