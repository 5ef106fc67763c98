"""Whole fusions with scripted engines that die, do not start, or serve the wrong weights."""

import json
import time

import pytest
from long_cases import long
from scripted_parts import Faults, at_second_start, scripted_config, scripted_parts

from bohdi_ray.errors import DeadlineExceeded, EngineFailed
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.fusion import fuse
from bohdi_ray.placement.pools import pools
from bohdi_ray.run.run_dir import RunDir

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


@pytest.mark.parametrize(("model", "death"), [("ada", "die"), ("target", "dead"), long(10, "target", "die")])
def test_an_engine_that_dies_in_the_middle_of_a_call_is_replaced_and_nothing_is_lost(
    tmp_path, faults, undisturbed, model, death
):
    """Its process ends, or it says that it is dead while its process stays."""
    faults.arm(f"{death}-{model}")
    assert_same(run(tmp_path, faults), undisturbed)
    assert num_replaced(tmp_path) == 1


def test_an_engine_that_hangs_is_replaced_and_nothing_is_lost(tmp_path, faults, undisturbed):
    faults.arm("hang-ada")
    assert_same(run(tmp_path, faults, deadlines={"request_s": 4}), undisturbed)
    assert num_replaced(tmp_path) == 1


@pytest.mark.long(25)
def test_a_replacement_that_hangs_as_it_starts_is_replaced_too(tmp_path, faults, undisturbed, monkeypatch):
    """The deadline was long enough for the first start, so a later one that exceeds it hangs."""
    start = pools.start_engine

    async def start_within_6_s(*arguments):
        *others, deadlines = arguments
        await start(*others, deadlines.model_copy(update={"start_s": 6.0}))

    def hang() -> None:
        # From here on only: on a busy machine a source may take longer to start, and be left out.
        monkeypatch.setattr(pools, "start_engine", start_within_6_s)
        faults.arm("late-target")

    faults.arm("die-target")
    parts = at_second_start(scripted_parts(faults=faults), "target", hang)
    assert_same(fuse(scripted_config(str(tmp_path / "run"), **SMALL), parts=parts), undisturbed)
    assert num_replaced(tmp_path) == 1


@pytest.mark.long(12)
def test_a_first_start_that_hangs_ends_the_run_at_its_deadline(tmp_path, faults):
    faults.arm("late-target")
    with pytest.raises(DeadlineExceeded, match=r"engine target-0 to start; .*raise deadlines\.start_s"):
        run(tmp_path, faults, deadlines={"start_s": 6})


@pytest.mark.long(15)
def test_an_engine_that_fails_its_start_twice_is_started_a_third_time(tmp_path, faults, undisturbed):
    """Once with an error, once because the machine's memory is gone and its process with it."""
    faults.arm("start-bob")
    faults.arm("oom-bob")
    assert_same(run(tmp_path, faults), undisturbed)
    assert num_replaced(tmp_path) == 0


def test_a_target_that_never_starts_ends_the_run_with_its_name_and_reason(tmp_path, faults):
    faults.arm("start-target", times=50)
    with pytest.raises(EngineFailed, match=r"engine target-2 did not start after 3 tries.*scripted: no start"):
        run(tmp_path, faults)


@pytest.mark.long(15)
def test_a_target_that_cannot_be_replaced_ends_the_run_within_seconds(tmp_path, faults):
    faults.arm("die-target")
    parts = at_second_start(scripted_parts(faults=faults), "target", lambda: faults.arm("start-target", times=50))
    started = time.monotonic()
    with pytest.raises(EngineFailed, match="engine target-3 did not start"):
        fuse(scripted_config(str(tmp_path / "run"), **SMALL), parts=parts)
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
