import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_fusion import ScriptedFusion, make_config

from bohdi_ray.tree.manager import TreeManager


def variant(depth=3, lag=1, reuse=True, ahead=1, limits=None, max_failures=10):
    return make_config(
        tree={"depth": depth, "max_children": limits},
        sprout={"reuse_ballots": reuse, "requests_ahead": ahead, "max_failures": max_failures},
        harvest={"step_lag": lag},
        bandit={"window": 4},
    )


VARIANTS = {
    "default": variant(),
    "paper": variant(lag=0, reuse=False),
    "depth 1": variant(depth=1, reuse=False, ahead=0),
    "depth 4, far ahead": variant(depth=4, lag=2, ahead=3),
    "lag longer than a round": variant(lag=5, ahead=2),
    "few names": variant(depth=2, reuse=False, max_failures=2),
    "limits": variant(limits=(2, 3, 2)),
}
VARIETY = {"few names": 4, "depth 1": 30}


def fusion(name, seed, **more):
    config = VARIANTS[name]
    manager = more.pop("manager", None) or TreeManager(config)
    return ScriptedFusion(manager, num_rounds=3, order=random.Random(seed), variety=VARIETY.get(name, 400), **more)


@pytest.mark.parametrize("name", VARIANTS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_order_in_which_answers_arrive_changes_nothing(name, seed):
    plain = fusion(name, 0, answer_ahead=0.0).run()
    other = fusion(name, seed, answer_ahead=1.0).run()
    assert other.digests == plain.digests
    assert other.tickets == plain.tickets
    assert other.closed == plain.closed
