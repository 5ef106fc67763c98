"""Whole fusions with scripted engines that die, do not start, or serve the wrong weights."""

import json
import time

import pytest
from scripted_parts import Faults, scripted_config, scripted_parts

from bohdi_ray.errors import EngineFailed
from bohdi_ray.fusion import fuse
from bohdi_ray.storage.run_dir import RunDir
from bohdi_ray.storage.samples import SampleStore

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]

SMALL = {
    "meditation": {"steps": 2, "walks_per_step": 6},
    "stop": {"rounds": 2},
    "harvest": {"max_tasks_in_flight": 4, "max_staleness": 0},
}


@pytest.fixture
def faults(tmp_path):
    (tmp_path / "faults").mkdir()
    return Faults(str(tmp_path / "faults"))


@pytest.fixture(scope="module")
def undisturbed(ray_session, tmp_path_factory):
    """The run that every disturbed one must equal."""
    return fuse(scripted_config(str(tmp_path_factory.mktemp("undisturbed") / "run"), **SMALL), parts=scripted_parts())


def run(folder, faults, **changes):
    return fuse(scripted_config(str(folder / "run"), **{**SMALL, **changes}), parts=scripted_parts(faults=faults))


def num_replaced(folder) -> int:
    lines = map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
    return [line["num_replaced"] for line in lines if "num_replaced" in line][-1]


def assert_same(summary, undisturbed):
    assert summary.tree_digest == undisturbed.tree_digest
    assert [(r.tickets, r.accepted, r.rewards) for r in summary.rounds] == [
        (r.tickets, r.accepted, r.rewards) for r in undisturbed.rounds
    ]


@pytest.mark.parametrize("model", ["ada", "target"])
def test_an_engine_that_dies_in_the_middle_of_a_call_is_replaced_and_nothing_is_lost(
    tmp_path, faults, undisturbed, model
):
    faults.arm(f"die-{model}")
    assert_same(run(tmp_path, faults), undisturbed)
    assert num_replaced(tmp_path) == 1


def test_an_engine_that_fails_its_start_twice_is_started_a_third_time(tmp_path, faults, undisturbed):
    faults.arm("start-bob", times=2)
    assert_same(run(tmp_path, faults), undisturbed)
    assert num_replaced(tmp_path) == 0


def test_an_engine_that_never_starts_ends_the_run_with_its_name_and_reason(tmp_path, faults):
    faults.arm("start-bob", times=50)
    with pytest.raises(EngineFailed, match=r"engine bob-2 did not start after 3 tries.*scripted: no start"):
        run(tmp_path, faults)


def test_an_engine_that_cannot_be_replaced_ends_the_run_within_seconds(tmp_path, faults):
    parts = scripted_parts(faults=faults)

    def start_trainer(config, queue, folder, claim):
        faults.arm("die-ada")
        return parts.start_trainer(config, queue, folder, claim)

    def make_engine(config):
        made = []

        def make(model, *args):
            made.append(model.name)
            if made.count("ada") == 2:
                faults.arm("start-ada", times=50)
            return parts.make_engine(config)(model, *args)

        return make

    from dataclasses import replace

    config = scripted_config(str(tmp_path / "run"), **SMALL)
    started = time.monotonic()
    with pytest.raises(EngineFailed, match="engine ada-3 did not start"):
        fuse(config, parts=replace(parts, make_engine=make_engine, start_trainer=start_trainer))
    assert time.monotonic() - started < 60


def test_a_target_engine_that_fails_to_load_weights_is_replaced_and_serves_the_right_version(
    tmp_path, faults, undisturbed
):
    faults.arm("load-target")
    assert_same(run(tmp_path, faults), undisturbed)
    assert num_replaced(tmp_path) == 1
    for sample in SampleStore(RunDir.open(tmp_path / "run")).iter_samples():
        assert [c.weights_version for c in sample.candidates if c.model == "target"] == [sample.round]


def test_answers_made_with_other_weights_than_the_rounds_are_asked_for_again(tmp_path, faults, undisturbed):
    faults.arm("slip-target")
    assert_same(run(tmp_path, faults), undisturbed)
    assert num_replaced(tmp_path) == 1
