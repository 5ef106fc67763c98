"""Pools on clusters of several raylets that grow, shrink, lose a node and get one. Each cluster has its own process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from clean_env import clean_env

TESTS = Path(__file__).parents[1]
LIMIT_S = 240

pytestmark = pytest.mark.timeout(LIMIT_S + 30)


@pytest.fixture
def played(tmp_path):
    """What a program, given its arguments and a folder, saw."""

    def play(program, *arguments):
        log = tmp_path / "log"
        with log.open("w") as out:
            # Nothing of the Ray that other tests use, and no token, which Ray reads as it is imported.
            env = clean_env(RAY_AUTH_MODE="disabled")
            # A session of its own: when it is late, its raylets end with it.
            command = [sys.executable, str(TESTS / program), *arguments, str(tmp_path)]
            process = subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)
            try:
                code = process.wait(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
                code = f"not ended after {LIMIT_S} s"
        assert code == 0, f"{code}: {log.read_text()[-4000:]}"
        seen = json.loads((tmp_path / "seen.json").read_text())
        assert "failure" not in seen, seen
        assert seen["left_behind"] == [], "no group, actor or demand stays, and all room is free"
        return seen

    return play


@pytest.mark.long(120)
def test_a_pool_follows_its_load_and_the_nodes_and_leaves_the_trainer_its_room(played):
    seen = played("elastic_run.py", "course")
    assert seen["ended"].startswith("Interrupted")
    assert {"tree", "queue", "directory"} <= set(seen["beside_driver"]), "a lost node takes none of these away"
    # More is wanted than there is: told with needed and free, then with fewer.
    assert "it needs 1 GPU + 0.5 CPU; free beside what the trainer needs: " in seen["waited"]
    assert ": 0 GPU, " in seen["waited"]
    assert "source ada continues with fewer engines for now: waited 20 s for capacity" in seen["given_up"]
    assert seen["ada_without_room"] == 1
    # The trainer's card was free for three seconds, while the pool asked for one.
    assert seen["ada_while_trainer_restarts"] == 1
    assert seen["trainer_back_s"] < 10
    told = seen["told"]
    assert any(text.startswith("ada grows from 1 to ") for text in told)
    # At once or by steps, as what was under way ends.
    assert any(text.startswith("ada shrinks from 5 to ") for text in told)
    assert any(text.startswith("ada shrinks from ") and " to 1 engines: " in text for text in told)
    assert any("because required components do not fit" in text for text in told), "it gave room back after the loss"


@pytest.mark.long(60)
def test_the_number_of_engines_changes_no_tree(played):
    seen = played("elastic_run.py", "same")
    assert seen["grew"] and seen["digests"][0] == seen["digests"][1]


@pytest.mark.long(45)
def test_a_run_may_be_told_to_stop_where_there_is_no_room(played):
    seen = played("elastic_run.py", "short")
    assert seen["ended"] == "NoRoom"
    assert "needs 1 GPU + 0.5 CPU with region=b on one node" in seen["text"] and "region=a" in seen["text"]


@pytest.mark.long(90)
def test_an_autoscaler_brings_nodes_for_the_load_and_takes_them_away_after_it(played):
    seen = played("autoscaled_run.py")
    assert seen["ended"].startswith("Interrupted")
    # No card at first: the trainer's node comes, then one for ada, and one for the engine that the load asks for.
    assert (seen["nodes_before"], seen["nodes_under_load"]) == (0, 3) and 1 <= seen["nodes_at_start"] <= 2
    # After it the pool gives that one back while the run goes on, the rest at its end.
    assert seen["ada_then"] == [1, 1] and seen["demands_then"] == []
