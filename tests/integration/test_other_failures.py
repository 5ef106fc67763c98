"""Whole fusions whose trainer, tree manager or queue fails; and starts that are refused."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import ray
from long_cases import long
from scripted_parts import Faults, scripted_config, scripted_parts

from bohdi_ray.driver import components
from bohdi_ray.errors import ConfigError, DeadlineExceeded, TrainingFailed
from bohdi_ray.fusion import fuse

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]

SMALL = {"meditation": {"steps": 2, "walks_per_step": 6}, "stop": {"rounds": 2}}


@pytest.fixture
def faults(tmp_path):
    (tmp_path / "faults").mkdir()
    return Faults(str(tmp_path / "faults"))


def kill_when(ready: Callable[[], bool], victim: list) -> threading.Thread:
    """Kills the one actor that will be in `victim` (Ray restarts it) as soon as it is there and `ready` says so."""

    def wait_and_kill() -> None:
        deadline = time.monotonic() + 60
        while not (victim and ready()):
            assert time.monotonic() < deadline, "the moment never came"
            time.sleep(0.02)
        ray.kill(victim[0], no_restart=False)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


def test_a_trainer_that_dies_ends_the_run_within_seconds(tmp_path, faults):
    faults.arm("train")
    started = time.monotonic()
    with pytest.raises(TrainingFailed, match="loss is not a number"):
        fuse(scripted_config(str(tmp_path / "run"), **SMALL), parts=scripted_parts(faults=faults))
    assert time.monotonic() - started < 40


def test_a_trainer_that_stops_moving_ends_the_run_at_its_deadline(tmp_path, faults):
    faults.arm("stall")
    config = scripted_config(str(tmp_path / "run"), **SMALL, deadlines={"train_step_s": 3, "drain_s": 1})
    with pytest.raises(DeadlineExceeded, match="progress of the trainer"):
        fuse(config, parts=scripted_parts(faults=faults))


@pytest.mark.parametrize("step_lag", [long(16, 0), 1])
def test_a_tree_manager_that_dies_in_the_middle_of_a_round_changes_nothing(tmp_path, monkeypatch, step_lag):
    managers = []

    def recorded(*args, **options):
        managers.append(startup_manager(*args, **options))
        return managers[-1]

    startup_manager = components.start_tree_manager
    monkeypatch.setattr(components, "start_tree_manager", recorded)
    shape = {
        "meditation": {"steps": 3, "walks_per_step": 6},
        "stop": {"rounds": 2},
        "harvest": {"step_lag": step_lag, "max_tasks_in_flight": 4},
    }
    alone = fuse(scripted_config(str(tmp_path / "alone"), **shape), parts=scripted_parts())
    managers.clear()
    thread = kill_when(lambda: any((tmp_path / "run" / "samples").glob("part-*")), managers)
    summary = fuse(scripted_config(str(tmp_path / "run"), **shape), parts=scripted_parts(answer_s=0.1))
    assert not thread.is_alive()
    assert summary.tree_digest == alone.tree_digest
    assert [r.tickets for r in summary.rounds] == [r.tickets for r in alone.rounds]


@pytest.mark.long(20)
def test_a_tree_manager_that_dies_comes_back_from_its_snapshot(tmp_path, monkeypatch):
    """The journal's first segments are gone when it starts again: without the snapshot it could not."""
    managers = []

    def recorded(*args, **options):
        managers.append(startup_manager(*args, **options, snapshot_events=1))
        return managers[-1]

    startup_manager = components.start_tree_manager
    tree = tmp_path / "run" / "tree"
    hidden = [tree / f"segment-{number:08d}" for number in range(2)]

    def ready() -> bool:
        if not (tree / "snapshot-0" / "COMMIT").exists() or not (tree / "segment-00000003").exists():
            return False
        for path in hidden:
            path.rename(tmp_path / path.name)
        return True

    # Rounds enough that the snapshot of the first one, written beside the work, is there long before the end.
    shape = {"meditation": {"steps": 2, "walks_per_step": 6}, "stop": {"rounds": 5}}
    alone = fuse(scripted_config(str(tmp_path / "alone"), **shape), parts=scripted_parts())
    assert not any((tmp_path / "alone" / "tree").glob("snapshot*")), "a small run needs none"
    monkeypatch.setattr(components, "start_tree_manager", recorded)
    thread = kill_when(ready, managers)
    summary = fuse(scripted_config(str(tmp_path / "run"), **shape), parts=scripted_parts(answer_s=0.2))
    assert not thread.is_alive() and (tmp_path / hidden[0].name).exists()
    assert summary.tree_digest == alone.tree_digest
    assert [r.tickets for r in summary.rounds] == [r.tickets for r in alone.rounds]


def test_a_queue_that_dies_while_a_round_is_trained_is_given_its_rows_again(tmp_path):
    queues, parts = [], scripted_parts(step_s=1.5)

    def start_trainer(config, queue, folder, claim):
        queues.append(queue)
        return parts.start_trainer(config, queue, folder, claim)

    def rows_are_queued() -> bool:
        return ray.get(queues[0].status.remote(), timeout=20).num_rows_queued > 0

    # Without staleness nothing is harvested while round 0 is trained, so only the watch can find the rows gone.
    thread = kill_when(rows_are_queued, queues)
    config = scripted_config(str(tmp_path / "run"), **SMALL, harvest={"max_staleness": 0})
    fuse(config, parts=replace(parts, start_trainer=start_trainer))
    assert not thread.is_alive()
    assert (tmp_path / "run" / "checkpoints" / "round-1" / "COMMIT").exists()


def engines_must_not_start(config):
    raise AssertionError("engines were started")


def test_an_existing_run_is_refused_before_engines_start(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 1\n")
    parts = replace(scripted_parts(), make_engine=engines_must_not_start)
    with pytest.raises(ConfigError, match="run_dir") as refused:
        fuse(scripted_config(str(tmp_path / "run")), parts=parts)
    assert refused.value.remedy


def test_a_run_directory_that_cannot_be_written_is_refused_before_engines_start(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    parts = replace(scripted_parts(), make_engine=engines_must_not_start)
    with pytest.raises(ConfigError, match="run_dir"):
        fuse(scripted_config(str(tmp_path / "locked" / "run")), parts=parts)


def test_a_start_that_fails_leaves_no_actor(tmp_path, monkeypatch):
    made = []

    def recorded(start):
        def starting(*args, **options):
            made.append(start(*args, **options))
            return made[-1]

        return starting

    for name in ("start_directory", "start_tree_manager", "start_sample_queue"):
        monkeypatch.setattr(components, name, recorded(getattr(components, name)))
    parts = scripted_parts()

    def make_engine(config):
        return recorded(parts.make_engine(config))

    def start_trainer(config, queue, folder, claim):
        raise TrainingFailed("scripted: no trainer")

    with pytest.raises(TrainingFailed, match="no trainer"):
        config = scripted_config(str(tmp_path / "run"), **SMALL)
        fuse(config, parts=replace(parts, make_engine=make_engine, start_trainer=start_trainer))
    assert len(made) >= 3  # directory, manager, queue; and the sources, as far as they had come
    for actor in made:
        with pytest.raises(ray.exceptions.RayActorError):
            ray.get(actor.__ray_ready__.remote(), timeout=20)
