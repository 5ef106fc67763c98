"""Whole fusions with scripted engines: determinism, staleness, conservation, what a run leaves behind."""

import json

import pytest
from long_cases import long
from scripted_parts import scripted_config, scripted_parts

from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.fusion import fuse
from bohdi_ray.run.run_dir import RunDir

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(180)]


def run(folder, **changes):
    return fuse(scripted_config(str(folder), **changes), parts=scripted_parts())


@pytest.fixture(scope="module")
def usual(ray_session, tmp_path_factory):
    """Folder and summary of a run with the usual settings, in a folder whose name is not ASCII."""
    folder = tmp_path_factory.mktemp("usual") / "räume"
    return folder, run(folder)


def test_a_run_ends_with_its_figures_and_files(usual):
    folder, summary = usual
    written = json.loads((folder / "summary.json").read_text())
    assert [r["weights_version"] for r in written["rounds"]] == [0, 0, 1]
    assert written["tree_digest"] == summary.tree_digest
    assert written["heldout_loss_before"] > written["heldout_loss_after"]
    assert (folder / "target" / "exported").exists()
    samples = list(SampleStore(RunDir.open(folder)).iter_samples())
    assert len(samples) == summary.num_accepted == sum(r["accepted"] for r in written["rounds"])
    assert all(r["tickets"] == r["accepted"] + sum(r["failures"].values()) for r in written["rounds"])


@pytest.mark.parametrize(
    ("staleness", "versions"),
    [(0, [0, 1, 2]), (None, [0, 0, 1]), long(8, 2, [0, 0, 0])],
)
def test_round_r_harvests_with_version_r_minus_staleness(tmp_path, usual, staleness, versions):
    folder, summary = usual  # its staleness is 1
    if staleness is not None:
        folder = tmp_path / "run"
        summary = run(folder, harvest={"max_staleness": staleness, "max_tasks_in_flight": 4})
    assert [r.weights_version for r in summary.rounds] == versions
    for sample in SampleStore(RunDir.open(folder)).iter_samples():
        target = next(c for c in sample.candidates if c.model == "target")
        assert target.weights_version == versions[sample.round]


@pytest.mark.parametrize("step_lag", [long(16, 0), long(18, 1)])  # others in test_fusion_variants.py
def test_the_digest_does_not_depend_on_tasks_in_flight(tmp_path, step_lag):
    digests = set()
    for in_flight in (1, 16):
        harvest = {"max_tasks_in_flight": in_flight, "tickets_per_task": 3, "step_lag": step_lag}
        summary = run(tmp_path / str(in_flight), harvest=harvest, meditation={"steps": 3, "walks_per_step": 10})
        digests.add(summary.tree_digest)
    assert len(digests) == 1


def test_another_seed_gives_another_tree(tmp_path, usual):
    assert run(tmp_path / "run", seed=1).tree_digest != usual[1].tree_digest
