"""Runs that were interrupted go on: the same tree and samples as if nothing had happened, nothing trained twice."""

from collections import Counter
from pathlib import Path

import pytest
from long_cases import long
from scripted_driver import killed_when
from scripted_parts import Faults, scripted_config, scripted_parts

from bohdi_ray.driver.resume import recover
from bohdi_ray.errors import BohdiError, ConfigErrors, RunDirError
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.fusion import fuse
from bohdi_ray.run.run_dir import RunDir

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(900)]


def config(folder, **changes):
    sections = {"meditation": {"steps": 3, "walks_per_step": 8}, "stop": {"rounds": 4}, **changes}
    return scripted_config(str(folder), **sections)


def kill_after(folder: Path, how: str, pattern: str, number: int) -> None:
    """SIGKILL as soon as `number` files match."""
    log = folder.parent / f"{folder.name}.log"
    killed_when("test_resume", str(folder), how, log, lambda: len(list(folder.glob(pattern))) >= number)


def samples_of(folder) -> dict[str, str]:
    return {sample.sample_id: sample.question for sample in SampleStore(RunDir.open(folder)).iter_samples()}


def rows_by_round(folder) -> list[tuple[str, ...] | None]:
    return [record.row_sample_ids for record in recover(RunDir.open(folder)).rounds]


@pytest.fixture(scope="module")
def whole(ray_session, tmp_path_factory):
    """Folder and summary of the run of `config` when nothing happens to it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, fuse(config(folder), parts=scripted_parts())


MOMENTS = {
    "nothing harvested yet": ("checkpoints/base/COMMIT", 1),
    "between two steps of round 0": ("tree/segment-*", 2),
    "a part whose segment may or may not be there": ("samples/part-r0001-s001*", 1),
    "round 1 trained, its optimizer perhaps not": ("checkpoints/round-1/COMMIT", 1),
}


@pytest.mark.parametrize("moments", [list(MOMENTS)[2:], long(100, list(MOMENTS))], ids=["two", "all"])
def test_killed_at_any_moment_a_run_goes_on_to_the_same_end(tmp_path, whole, moments):
    whole_folder, undisturbed = whole
    folder = tmp_path / "killed"
    for number, moment in enumerate(moments):
        kill_after(folder, "resume" if number else "start", *MOMENTS[moment])
    summary = fuse(config(folder), resume=True, parts=scripted_parts())
    assert summary.tree_digest == undisturbed.tree_digest
    assert samples_of(folder) == samples_of(whole_folder)
    assert rows_by_round(folder) == rows_by_round(whole_folder)
    for went_on, as_whole in zip(summary.rounds, undisturbed.rounds, strict=True):
        for name in ("tickets", "accepted", "heldout", "rewards", "failures", "training_rows", "weights_version"):
            assert getattr(went_on, name) == getattr(as_whole, name), (name, as_whole.round)
        assert as_whole.tokens.items() <= (Counter(went_on.tokens) | as_whole.tokens).items()
    assert RunDir.open(folder).committed_rounds()[-1] == 3
    assert not RunDir.open(folder).exists("lease.json")


def test_a_run_that_failed_goes_on_with_harmless_changes_and_lists_them(tmp_path, capfd, whole):
    folder, faults = tmp_path / "run", Faults(str(tmp_path))
    faults.arm("train")
    with pytest.raises(BohdiError):
        fuse(config(folder), parts=scripted_parts(faults=faults))
    wider = {"max_tasks_in_flight": 8, "tickets_per_task": 2}
    summary = fuse(config(folder, harvest=wider), resume=True, parts=scripted_parts())
    told = "".join(capfd.readouterr())
    assert "resuming" in told and "changed: harvest.tickets_per_task: 4 -> 2" in told
    assert summary.tree_digest == whole[1].tree_digest
    assert RunDir.open(folder).config().harvest.tickets_per_task == 2
    assert RunDir.open(folder).exists("environment-1.json")


def test_a_run_that_has_ended_goes_on_to_a_later_stop_rule_only(tmp_path, whole):
    fuse(config(tmp_path / "run", stop={"rounds": 2}), parts=scripted_parts())
    with pytest.raises(RunDirError, match=r"has ended \(stop.rounds = 2\).*stop.rounds=4"):
        fuse(config(tmp_path / "run", stop={"rounds": 2}), resume=True, parts=scripted_parts())
    summary = fuse(config(tmp_path / "run"), resume=True, parts=scripted_parts())
    assert len(summary.rounds) == 4
    assert summary.tree_digest == whole[1].tree_digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 3}, r"seed = 3: .*depends on another value, 0.*Set it back to 0"),
        ({"bandit": {"horizon": 7}}, r"bandit.horizon = 7"),
        ({"training": {"global_batch_size": 8, "num_workers": 2}}, r"training.num_workers = 2: .*saved by 1 workers"),
        ({"harvest": {"max_staleness": 0}}, r"harvest.max_staleness = 0"),
    ],
)
def test_a_change_that_would_make_another_run_of_it_is_refused(tmp_path_factory, ended, changes, message):
    with pytest.raises(ConfigErrors) as refused:
        fuse(config(ended, stop={"rounds": 9}, **changes), resume=True, parts=scripted_parts())
    import re

    assert re.search(message, str(refused.value)), str(refused.value)
    assert len(refused.value.errors) == 1


@pytest.fixture(scope="module")
def ended(ray_session, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ended") / "run"
    fuse(config(folder, stop={"rounds": 1}), parts=scripted_parts())
    return folder


def test_there_must_be_a_run_with_a_name(tmp_path):
    with pytest.raises(RunDirError, match="holds no run"):
        fuse(config(tmp_path / "none"), resume=True, parts=scripted_parts())
    with pytest.raises(ConfigErrors, match="bohdi resume RUN"):
        fuse(config(tmp_path / "run-{time}"), resume=True, parts=scripted_parts())
