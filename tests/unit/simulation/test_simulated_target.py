"""The learner: what training rows do to skills."""

import numpy as np
import pytest

from bohdi_ray.studies.simulation.target import TARGET, SimulatedSample, Target
from bohdi_ray.studies.simulation.world import World
from bohdi_ray.studies.simulation.world_spec import parse_world


def make_world(**learning) -> World:
    plain = {"rate": 0.1, "forgetting": 0.0, "luck_taught": 0.0, "headroom": 0.3, **learning}
    return World(parse_world({"branching": [2, 2, 3], "branching_spread": 0, "gap": 2.0, "learning": plain}), 1, 5)


def samples(world: World, leaf: int, number: int, author: int = 0) -> list[SimulatedSample]:
    skills = world.start if author == TARGET else world.sources_in(0)[author]
    return [SimulatedSample(leaf, author, skills, 0.0) for _ in range(number)]


def test_without_rows_nothing_changes():
    target = Target(make_world(forgetting=0.1))
    target.train([])
    assert np.array_equal(target.skill, target.world.start)


def test_new_samples_close_the_gap_at_the_stated_rate_and_ever_less():
    world = make_world(to_siblings=0.0, to_cousins=0.0)
    target, before = Target(world), world.start[0]
    taught = min(world.sources_in(0)[0, 0], world.ceiling[0])
    skills = [before]
    for _ in range(20):
        target.train(samples(world, 0, 1))
        skills.append(target.skill[0])
    assert np.allclose(taught - np.array(skills), (taught - before) * 0.9 ** np.arange(21))
    assert (np.diff(skills) > 0).all() and (np.diff(skills, 2) < 0).all()
    assert np.array_equal(target.skill[1:], world.start[1:])


def test_a_repeat_is_worth_less_than_another_sample():
    world = make_world(repeat_worth=0.3)
    repeated, fresh = Target(world), Target(world)
    repeated.train(samples(world, 0, 1) * 3)
    fresh.train(samples(world, 0, 3))
    one = Target(world)
    one.train(samples(world, 0, 1))
    assert one.skill[0] < repeated.skill[0] < fresh.skill[0]


def test_siblings_gain_more_than_cousins_and_strangers_nothing():
    world = make_world()
    target = Target(world)
    target.train(samples(world, 0, 3))
    gap = world.sources_in(0)[0] - world.start
    share = (target.skill - world.start) / np.minimum(gap, world.ceiling - world.start)
    siblings, cousins = share[1:3], share[3:6]
    assert share[0] > siblings.max() and siblings.min() > cousins.max() and cousins.min() > 0
    assert np.allclose(siblings, siblings[0]) and np.allclose(cousins, cousins[0])
    assert (share[6:] == 0).all()


def test_a_ceiling_holds_and_what_cannot_be_learned_stays():
    world = make_world(learnable=0.5, headroom=0.0)
    target = Target(world)
    target.train(samples(world, 0, 2000, author=int(world.sources_in(0)[:, 0].argmax())))
    assert target.skill[0] == pytest.approx((world.start[0] + world.sources_in(0)[:, 0].max()) / 2)
    assert (target.skill <= world.ceiling + 1e-12).all()
    fixed = make_world(learnable=0.0)
    target = Target(fixed)
    target.train(samples(fixed, 0, 100))
    assert np.allclose(target.skill, fixed.start)


def test_leaves_without_rows_forget_a_share_of_what_was_learned():
    world = make_world(forgetting=0.25, to_siblings=0.0, to_cousins=0.0)
    target = Target(world)
    target.train(samples(world, 0, 5))
    learned = target.skill[0] - world.start[0]
    target.train(samples(world, 1, 5))
    assert target.skill[0] - world.start[0] == pytest.approx(0.75 * learned)


def test_leaves_without_rows_lose_of_what_was_known_from_the_start_too_where_training_overwrites():
    world = make_world(overwriting=0.25, ignorance=3.0, to_siblings=0.0, to_cousins=0.0)
    target = Target(world)
    target.train(samples(world, 0, 5))
    nothing = world.sources_in(0).max(axis=0) - 3.0
    assert target.skill[0] > world.start[0]
    assert np.allclose(target.skill[1:] - nothing[1:], 0.75 * (world.start - nothing)[1:])
    for _ in range(60):
        target.train([])
    assert np.allclose(target.skill, nothing, atol=1e-6)


def test_a_worse_answer_harms_its_own_leaf_only():
    world = make_world()
    target = Target(world)
    bad = SimulatedSample(0, 1, world.start - 1.0, 0.0)
    target.train([bad])
    assert target.skill[0] == pytest.approx(world.start[0] - 0.1)
    assert np.array_equal(target.skill[1:], world.start[1:])


def test_the_own_answer_teaches_its_luck_and_little_of_it():
    world = make_world(luck_taught=0.5, own_worth=0.2)
    target = Target(world)
    target.train([SimulatedSample(0, TARGET, world.start, 1.0)])
    assert target.skill[0] - world.start[0] == pytest.approx(0.1 * 0.2 * 0.5)
    assert np.array_equal(target.skill[1:], world.start[1:])


def test_a_shift_of_the_target_comes_with_its_round_and_is_not_forgotten():
    plain = {"gap": 2.0, "learning": {"forgetting": 0.5}, "shifts": [{"round": 2, "by": 1.0, "level": 1, "share": 1.0}]}
    world = World(parse_world(plain), 1, 5)
    target = Target(world)
    target.train([])
    assert np.allclose(target.skill, world.start)
    for _ in range(3):
        target.train([])
    assert np.allclose(target.skill - world.start, 1.0)
