"""What is handed over of a round: ids alone, and of held-out samples a bounded number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver import training_feed as module
from bohdi_ray.driver.recovered import RecoveredState
from bohdi_ray.driver.training_feed import TrainingFeed
from bohdi_ray.records import ticket_id
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.tree.record.history import RoundRecord

NUM_ROUNDS, SIZE = 12, 5


class NoRehearsals:
    def lacks(self, round: int) -> bool:
        return False

    def mixed(self, round: int, drawn: list[str]) -> list[str]:
        return list(drawn)


def ids_of(round: int) -> tuple[list[str], list[str]]:
    """Trained on, held out."""
    return [ticket_id(round, 0, 0)], [ticket_id(round, 0, 1), ticket_id(round, 0, 2)]


@pytest.fixture
def run(tmp_path, config: FusionConfig) -> RunDir:
    """A run without a single sample on disk: nothing may be read of them."""
    return RunDir.create(tmp_path / "run", config, {})


def training_feed(run: RunDir, config: FusionConfig) -> TrainingFeed:
    training = config.training.model_copy(update={"heldout_rows_per_round": SIZE})
    return TrainingFeed(config.model_copy(update={"training": training}), run, None, NoRehearsals())


def test_no_text_is_read_and_no_more_than_the_setting_are_measured(run, config):
    feed = training_feed(run, config)
    for round in range(NUM_ROUNDS):
        trained, heldout = feed._rows_of(round, *ids_of(round))
        assert trained == ids_of(round)[0]
        assert len(heldout) == min(SIZE, 2 * (round + 1)) and heldout == sorted(heldout)


def test_a_driver_that_resumes_measures_the_same_rows(run, config, monkeypatch):
    whole = training_feed(run, config)
    expected = [whole._rows_of(round, *ids_of(round)) for round in range(NUM_ROUNDS)]
    records = [
        RoundRecord(round, 0, heldout_ids=ids_of(round)[1], row_sample_ids=tuple(ids_of(round)[0]))
        for round in range(NUM_ROUNDS)
    ]
    point = module.resume_point(run.address("checkpoints"), True)
    monkeypatch.setattr(module, "resume_point", lambda *args: replace(point, round=8))
    resumed = training_feed(run, config)
    resumed.remember(RecoveredState(rounds=tuple(records[:11])))
    assert resumed._rows == {9: expected[9], 10: expected[10]}
    assert resumed._rows_of(11, *ids_of(11)) == expected[11]
