"""Whole simulated fusions: they run the real tree, repeat themselves, and policies differ as they must."""

import numpy as np
import pytest

from bohdi_ray.studies.simulation.fusion import SimulatedFusion, simulation_config
from bohdi_ray.studies.simulation.planners import Oracle, Race
from bohdi_ray.studies.simulation.policies import ENTRANTS, tuned
from bohdi_ray.studies.simulation.study import Job, simulate
from bohdi_ray.studies.simulation.world import World
from bohdi_ray.studies.simulation.world_spec import load_world, parse_world

SMALL = parse_world({"branching": [3, 2, 2], "gap": 1.0, "failure_rate": 0.1})


def fuse(spec, seed, policy, num_rounds, settings=None):
    return simulate(Job("world", spec, policy, tuned(policy) if settings is None else settings, seed, num_rounds))


def test_a_simulated_fusion_repeats_itself_and_another_seed_differs():
    one, two, other = (fuse(SMALL, seed, "dynabranches", 3) for seed in (1, 1, 2))
    assert one == two
    assert one["curve"] != other["curve"]


@pytest.mark.parametrize("policy", ENTRANTS)
def test_every_policy_runs_learns_and_counts_its_samples(policy):
    result = fuse(SMALL, 1, policy, 4)
    assert 4 * 90 * 0.8 < result["samples"][-1] < 4 * 90
    assert len(result["curve"]) == len(result["samples"]) == 5
    assert result["gain"] > 0.1
    assert 0 < result["found"] <= 1 and 0 <= result["behind"] <= 1


def run(world, staleness, num_rounds=4, policy=None, planner=None):
    harvest = {"heldout_fraction": 0.0, "max_staleness": staleness}
    config = simulation_config(world.seed, 3, 3, harvest=harvest)
    fusion = SimulatedFusion(world, config, policy, planner)
    return fusion, fusion.run(num_rounds)


def test_the_tree_holds_what_the_world_answered():
    fusion, trace = run(World(SMALL, 1, 4), staleness=1)
    credits = [credit for credits in trace.credits for credit in credits]
    stats = fusion.manager.stats()
    assert stats["num_committed"] == len(credits) == trace.num_samples[-1]
    assert stats["sum_rewards"] == sum(credit.reward for credit in credits)
    assert stats["num_failed"]["invalid_question"] == stats["num_issued"] - len(credits)
    for node in fusion.manager.tree.nodes():
        if node.arms is None and node.num_samples:
            mine = [credit for credit in credits if credit.node is node]
            assert len(mine) == node.num_samples
            assert {credit.leaf for credit in mine} == {fusion.world.leaf(node.path)}


def test_a_round_is_answered_by_the_target_of_its_version():
    # Without noise and bias the better side wins every question, so rewards show which target answered.
    plain = {
        "branching": [2, 2, 2],
        "gap": 0.5,
        "gap_spread": 0.0,
        "noise": 1e-6,
        "failure_rate": 0.0,
        "judge": {"noise": 0.0, "first_slot_bonus": 0.0, "error_rate": 0.0},
        "shifts": [{"round": 1, "by": 1.0, "level": 1, "share": 1.0}],
        "learning": {"rate": 0.0, "headroom": 2.0},
    }
    for staleness, expected in ((0, [1, 0, 0, 0]), (1, [1, 1, 0, 0]), (2, [1, 1, 1, 0])):
        _, trace = run(World(parse_world(plain), 1, 4), staleness)
        assert [np.mean([credit.reward for credit in credits]) for credits in trace.credits] == expected


def test_training_uses_the_rows_that_the_tree_drew():
    fusion, trace = run(World(SMALL, 1, 4), staleness=0)
    times = sum(sample.times_trained for sample in fusion.samples.values())
    assert times == sum(len(closed.row_sample_ids) for closed in trace.closed) == 4 * 180


def test_the_oracle_is_well_above_uniform_in_a_clear_world():
    spec = parse_world({"branching": [4, 3, 3], "gap": 0.0, "regions": [{"level": 1, "share": 0.25, "gap": 3.0}]})
    gains = {p: np.mean([fuse(spec, seed, p, 6)["gain"] for seed in (1, 2)]) for p in ("oracle", "uniform")}
    assert gains["oracle"] > 1.3 * gains["uniform"] > 0


def test_the_oracle_finds_hidden_domains_worth_learning():
    world = World(parse_world({"branching": [3, 3, 3], "branching_spread": 0.0}), 1, 5)
    fusion, _ = run(world, 1, 5, Race(), Oracle())
    assert len({sample.leaf for sample in fusion.samples.values()}) >= 25


def test_fixed_shares_never_change_after_the_pilot():
    spec = load_world("weak_branch")[1]
    world = World(spec, 1, 6)
    fusion, _ = run(world, 1, 3, Race(), ENTRANTS["fixed"].planner({"pilot_rounds": 2}))
    shares = dict(fusion.planner.shares)
    num_nodes = fusion.manager.stats()["num_nodes"]
    fusion.run(3)
    assert fusion.planner.shares == shares and fusion.manager.stats()["num_nodes"] == num_nodes
    assert all(0 < share < 1 for share in shares.values())


def test_dynabranches_spends_more_than_uniform_where_the_target_is_behind():
    spec = load_world("weak_branch")[1]
    behind = {p: np.mean([fuse(spec, seed, p, 8)["behind"] for seed in (3, 4)]) for p in ("dynabranches", "uniform")}
    assert behind["dynabranches"] > 1.25 * behind["uniform"]
