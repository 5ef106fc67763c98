"""A short storm over a run of a few rounds; `make chaos` is the long one. And the order of its kills."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from clean_env import clean_env
from storm import CHEAP, KINDS, schedule

BENCH = Path(__file__).parents[2] / "jobs" / "bench" / "chaos.py"
KILLS, MINUTES = 12, 10


@pytest.mark.long(240)
@pytest.mark.timeout(60 * (MINUTES + 1))
def test_a_short_storm_loses_nothing_and_repeats_nothing(tmp_path):
    options = ["--kills", KILLS, "--rounds", 7, "--minutes", MINUTES, "--seed", 1, "--folder", tmp_path]
    env = clean_env()
    # A session of its own: in this process the other tests' may be running.
    done = subprocess.run([sys.executable, BENCH, *map(str, options)], env=env, capture_output=True, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, (told, done.stderr[-4000:])
    assert told["num_kills"] >= KILLS - 2, told  # the run may be over before the last ones
    assert sum(told["kills"][kind] > 0 for kind in KINDS) >= 4, told
    assert told["lost"] == told["trained_twice"] == told["not_trained"] == 0
    assert told["digest_equal"] and told["weights_equal"] and told["conserved"] and told["bandit_counts_equal"]


def test_a_schedule_follows_from_its_seed_and_gives_every_kind_its_tenth():
    kills = schedule(100, 160, seed=3)
    assert kills == schedule(100, 160, seed=3) != schedule(100, 160, seed=4)
    numbers = Counter(kill.kind for kill in kills)
    assert numbers.total() == 100 and min(numbers[kind] for kind in KINDS) == 10
    assert all(numbers[kind] == 20 for kind in CHEAP)
    places = [kill.after_segments for kill in kills]
    assert places == sorted(places) and places[-1] <= 160
    assert Counter(kill.kind for kill in schedule(6, 16, seed=0)) == dict.fromkeys(KINDS, 1)
