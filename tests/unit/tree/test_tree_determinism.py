import functools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_fusion import ScriptedFusion, make_config, snapshot_of

from bohdi_ray.tree.manager import TreeManager


def variant(depth=3, lag=1, reuse=True, ahead=1, limits=None, max_failures=10):
    return make_config(
        tree={"depth": depth, "max_children": limits},
        sprout={"reuse_ballots": reuse, "requests_ahead": ahead, "max_failures": max_failures},
        harvest={"step_lag": lag},
        bandit={"window": 4, "threshold": 0.9},
    )


VARIANTS = {
    "default": variant(),
    "paper": variant(lag=0, reuse=False),
    "depth 1": variant(depth=1, reuse=False, ahead=0),
    "depth 4, far ahead": variant(depth=4, lag=2, ahead=3),
    "lag longer than a round": variant(lag=5, ahead=2),
    "few names": variant(depth=2, reuse=False, max_failures=1),
    "impatient": variant(max_failures=1),
    "limits": variant(limits=(2, 3, 2)),
}
VARIETY = {"few names": 3, "depth 1": 30}


def fusion(name, seed, **more):
    config = VARIANTS[name]
    manager = more.pop("manager", None) or TreeManager(config)
    return ScriptedFusion(manager, num_rounds=3, order=random.Random(seed), variety=VARIETY.get(name, 400), **more)


@functools.cache
def undisturbed(name, seed, **more):
    return fusion(name, seed, **more).run()


@pytest.mark.parametrize("name", VARIANTS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_order_in_which_answers_arrive_changes_nothing(name, seed):
    plain = undisturbed(name, 0, answer_ahead=0.0)
    other = fusion(name, seed, answer_ahead=1.0).run()
    assert other.digests == plain.digests
    assert other.tickets == plain.tickets
    assert other.closed == plain.closed


@pytest.mark.parametrize("name", VARIANTS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_a_run_killed_at_any_moment_and_replayed_ends_as_one_that_was_not(name, seed, data):
    plain = undisturbed(name, 1)
    run = fusion(name, seed)
    for _ in range(data.draw(st.integers(0, 150))):
        if run.manager.stats()["round"] == 3:
            break
        run.turn()
    known = dict(run.tickets)
    digest = run.manager.digest()
    replayed = TreeManager.replay(VARIANTS[name], None, run.segments)
    assert replayed.digest() == digest
    resumed = fusion(name, seed + 1, manager=replayed, segments=run.segments).run()
    assert run.digests + resumed.digests == plain.digests
    assert known | resumed.tickets == {**plain.tickets, **known}, "a ticket issued again has another path"
    assert all(plain.tickets[key] == ticket for key, ticket in known.items())
    assert run.closed + resumed.closed == plain.closed
    # The journal of both lives together is one journal.
    again = TreeManager.replay(VARIANTS[name], None, resumed.segments)
    assert again.digest() == plain.digests[-1]
    assert comparable(again.describe()) == comparable(resumed.manager.describe())


def comparable(tree):
    return {key: value for key, value in tree.items() if key != "children"} | {
        "children": [comparable(child) for child in tree["children"]]
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_a_snapshot_at_any_commit_point_holds_all_the_later_journal_needs(name):
    run = fusion(name, 5)
    snapshots = []
    original = run.point

    def point():
        snapshots.append(snapshot_of(run.manager))
        original()

    run.point = point
    run.run()
    for number, data in enumerate(snapshots):
        config = VARIANTS[name]
        assert TreeManager.restore(config, data).digest() == run.digests[number]
        later = TreeManager.replay(config, None, run.segments[number + 1 :], base=data)
        assert later.digest() == run.digests[-1]
        assert later.describe() == run.manager.describe()
        continued = fusion(name, 6, manager=TreeManager.restore(config, data)).run()
        assert run.digests[: number + 1] + continued.digests == run.digests


def test_a_segment_never_holds_what_happened_after_the_last_commit_point():
    run = fusion("default", 4)
    assert b"RoundOpened" in run.manager.take_segment()
    while not run.digests:
        run.turn()
        if not run.digests:
            assert run.manager.take_segment() == b""
            assert run.manager.events_since_commit
    assert b"Walked" in run.segments[0] and b"StepCommitted" in run.segments[0]
    assert run.manager.events_since_commit == ()


def test_another_seed_is_another_tree():
    digests = set()
    for seed in range(3):
        config = VARIANTS["default"].model_copy(update={"seed": seed})
        digests.add(ScriptedFusion(TreeManager(config), num_rounds=1).run().digests[-1])
    assert len(digests) == 3


def test_every_ticket_is_accounted_for_at_every_moment():
    run = fusion("default", 3)
    while run.manager.stats()["round"] < 3:
        run.turn()
        stats = run.manager.stats()
        ended = stats["num_committed"] + sum(stats["num_failed"].values())
        assert stats["num_issued"] == ended + stats["num_in_flight"]
    assert stats["num_in_flight"] == 0 and stats["num_issued"] + stats["num_abandoned"] == 3 * 3 * 8
    assert stats["num_failed"]["duplicate_question"] > 0 and stats["num_heldout"] > 0


def test_the_scripts_reach_what_they_are_meant_to_reach():
    """Guards the tests above: elections fail, ballots are used, walks abandoned, answers asked ahead stay unused."""
    stats = {name: fusion(name, 2).run().manager.stats() for name in VARIANTS}
    assert stats["default"]["num_ballot_sprouts"] > 0 and stats["default"]["num_failed_sprouts"] > 0
    assert stats["paper"]["num_ballot_sprouts"] == 0 and stats["limits"]["num_rebirths"] > 0
    assert stats["impatient"]["num_abandoned"] > 0
    state = fusion("depth 4, far ahead", 2).run().manager._state
    assert any(node.arms.proposals for node in state.tree.nodes() if node.arms is not None)
