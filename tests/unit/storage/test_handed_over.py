"""What of the samples is read to hand a round over: its own rows, and of held-out ones only those that are new."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.resume import RecoveredState
from bohdi_ray.driver.training_feed import TrainingFeed
from bohdi_ray.examples.sample_store import SampleStore, part_name
from bohdi_ray.examples.sample_table import to_table
from bohdi_ray.records import TrainingRow, ticket_id
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.tree.record.history import RoundRecord

NUM_ROUNDS, SIZE = 12, 5


class NoReplays:
    def lacks(self, round: int) -> bool:
        return False

    def mixed(self, round: int, drawn: list[TrainingRow]) -> list[TrainingRow]:
        return drawn


def ids_of(round: int) -> tuple[list[str], list[str]]:
    """Trained on, held out."""
    return [ticket_id(round, 0, 0)], [ticket_id(round, 0, 1), ticket_id(round, 0, 2)]


@pytest.fixture
def run(tmp_path, config: FusionConfig, make_sample) -> RunDir:
    run = RunDir.create(tmp_path / "run", config, {})
    for round in range(NUM_ROUNDS):
        SampleStore(run).write_part(round, 0, to_table([make_sample(i, round, heldout=i > 0) for i in range(3)]))
    return run


def training_feed(run: RunDir, config: FusionConfig) -> TrainingFeed:
    training = config.training.model_copy(update={"heldout_rows_per_round": SIZE})
    return TrainingFeed(config.model_copy(update={"training": training}), run, None, NoReplays())


def counted(store: SampleStore, monkeypatch) -> list[str]:
    read, original = [], store.read_part
    monkeypatch.setattr(store, "read_part", lambda name, columns=None: read.append(name) or original(name, columns))
    return read


def test_only_new_rows_are_read_and_no_more_than_the_setting_are_measured(run, config, monkeypatch):
    over = training_feed(run, config)
    over.store.max_parts = 1
    read = counted(over.store, monkeypatch)
    for round in range(NUM_ROUNDS):
        read.clear()
        trained, heldout = over._rows_of(round, *ids_of(round))
        assert set(read) == {part_name(round, 0)}, "nothing of earlier rounds"
        assert [row.sample_id for row in trained] == ids_of(round)[0]
        assert [row.index for row in heldout] == list(range(min(SIZE, 2 * (round + 1))))
        assert all(row.question and row.answer for row in heldout)


def test_a_driver_that_goes_on_measures_the_same_rows(run, config, monkeypatch):
    whole = training_feed(run, config)
    expected = [whole._rows_of(round, *ids_of(round)) for round in range(NUM_ROUNDS)]
    records = [
        RoundRecord(round, 0, heldout_ids=ids_of(round)[1], row_sample_ids=tuple(ids_of(round)[0]))
        for round in range(NUM_ROUNDS)
    ]
    from bohdi_ray.driver import training_feed as module

    point = module.resume_point(run.address("checkpoints"), True)
    monkeypatch.setattr(module, "resume_point", lambda *args: replace(point, round=8))
    resumed = training_feed(run, config)
    read = counted(resumed.store, monkeypatch)
    resumed.remember(RecoveredState(rounds=tuple(records[:11])))
    assert resumed._rows == {9: expected[9], 10: expected[10]}
    assert len(set(read)) <= SIZE + 4, "not every part"
    assert resumed._rows_of(11, *ids_of(11)) == expected[11]


def test_at_the_end_all_held_out_rows_are_measured(run, config):
    rows = training_feed(run, config).heldout_rows(NUM_ROUNDS - 2)
    assert [row.sample_id for row in rows] == [i for round in range(NUM_ROUNDS - 1) for i in ids_of(round)[1]]
