"""Fusions with `training.replay`: what version 0 of the target is sure of is trained on beside what the bandit drew."""

import json
from collections import Counter

import pytest
from scripted_parts import scripted_config, scripted_parts
from step_log import log_of

from bohdi_ray.driver.replay import Replays
from bohdi_ray.errors import BohdiError
from bohdi_ray.fusion import fuse
from bohdi_ray.storage.replays import ReplayStore
from bohdi_ray.storage.run_dir import RunDir

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(240)]

REPLAY = {"share": 0.25, "min_probability": 0.1, "questions_per_row": 4}


def config(folder):
    sections = {
        "meditation": {"steps": 2, "walks_per_step": 8},
        "enlightenment": {"steps": 2, "rows_per_step": 12},
        "training": {"replay": REPLAY, "global_batch_size": 8},
        "stop": {"rounds": 3},
    }
    return scripted_config(str(folder), **sections)


def trained_rows(folder):
    """Sample ids of every step that was trained, in order of the log."""
    lines = [json.loads(line) for line in log_of(folder).read_text().splitlines()]
    return [[row[2] for row in line["rows"]] for line in lines if line["event"] == "step"]


def test_each_round_trains_on_its_replay_and_the_target_goes_on_with_its_own_weights(tmp_path, capfd):
    summary = fuse(config(tmp_path / "run"), parts=scripted_parts(log_steps=True))
    store = ReplayStore(RunDir.open(tmp_path / "run"))
    steps = trained_rows(tmp_path / "run")
    replayed = [sample_id for step in steps for sample_id in step if sample_id.startswith("replay-")]
    kept = [row.replay_id for round in range(3) for row in store.kept(round, 8)]
    assert replayed == kept and {row.split("-t")[0] for row in kept} == {f"replay-r000{round}" for round in range(3)}
    assert [len(store.read(round)) for round in range(3)] == [32, 32, 32]
    assert all(1 <= sum(row.startswith("replay-") for row in step) <= 3 for step in steps)
    assert [r.training_rows for r in summary.rounds] == [24 + len(store.kept(round, 8)) for round in range(3)]
    # Harvested with the versions that a fusion without replay harvests with: version 0 was there for the replay only.
    assert [r.weights_version for r in summary.rounds] == [0, 0, 1]
    assert "round 0: version 0 is sure of" in "".join(capfd.readouterr())


def test_a_run_that_ended_before_a_rounds_replay_asks_for_it_when_it_goes_on(tmp_path, monkeypatch):
    whole = fuse(config(tmp_path / "whole"), parts=scripted_parts(log_steps=True))
    folder, ask = tmp_path / "run", Replays.ask

    async def fails(self, round):
        if round == 1:
            raise BohdiError("scripted: the driver ends here")
        return await ask(self, round)

    monkeypatch.setattr(Replays, "ask", fails)
    with pytest.raises(BohdiError, match="the driver ends here"):
        fuse(config(folder), parts=scripted_parts(log_steps=True))
    monkeypatch.setattr(Replays, "ask", ask)
    summary = fuse(config(folder), resume=True, parts=scripted_parts(log_steps=True))
    assert summary.tree_digest == whole.tree_digest
    stores = [ReplayStore(RunDir.open(where)) for where in (folder, tmp_path / "whole")]
    assert [stores[0].read(round) for round in range(3)] == [stores[1].read(round) for round in range(3)]
    assert Counter(map(tuple, trained_rows(folder))) == Counter(map(tuple, trained_rows(tmp_path / "whole")))
    assert [r.training_rows for r in summary.rounds] == [r.training_rows for r in whole.rounds]
