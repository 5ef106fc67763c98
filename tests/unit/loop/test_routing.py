"""The choice of a replica."""

from collections import Counter

import numpy as np
import pytest

from bohdi_ray.engines.routing import Replica, choose


def replicas(number):
    return tuple(Replica(f"m-{i}", None) for i in range(number))


def test_without_a_replica_there_is_nothing_to_choose():
    with pytest.raises(ValueError, match="no replica"):
        choose((), {}, np.random.default_rng(0))


def test_a_single_replica_is_taken_however_busy_it_is():
    (only,) = replicas(1)
    assert choose((only,), {"m-0": 1000}, np.random.default_rng(0)) is only


def test_of_two_the_less_loaded_is_always_taken():
    rng = np.random.default_rng(0)
    assert all(choose(replicas(2), {"m-0": 3, "m-1": 2}, rng).replica_id == "m-1" for _ in range(50))


def test_a_tie_is_broken_evenly():
    rng = np.random.default_rng(0)
    counts = Counter(choose(replicas(2), {}, rng).replica_id for _ in range(2000))
    assert abs(counts["m-0"] - 1000) < 5 * np.sqrt(2000 / 4)


def spread(choice, num_replicas=8, num_requests=4000):
    """Most minus mean load when nothing ever finishes."""
    load: Counter[str] = Counter()
    for _ in range(num_requests):
        load[choice(load)] += 1
    return max(load.values()) - num_requests / num_replicas


def test_two_choices_keep_the_load_far_more_even_than_one():
    rng, some = np.random.default_rng(1), replicas(8)
    two = spread(lambda load: choose(some, load, rng).replica_id)
    one = spread(lambda load: some[rng.integers(8)].replica_id)
    assert two <= 3  # log log n, however many requests
    assert one > 5 * two  # grows with the root of the number of requests


def test_the_choice_follows_from_the_generator_alone():
    def choices(seed):
        rng = np.random.default_rng(seed)
        return [choose(replicas(5), {"m-1": 1}, rng).replica_id for _ in range(30)]

    assert choices(3) == choices(3) != choices(4)
