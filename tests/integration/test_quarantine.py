"""A request that kills every engine it meets is set aside, and the run goes on."""

import json

import pyarrow.parquet as pq
import pytest
from long_cases import long
from scripted_parts import Faults, scripted_config, scripted_parts

from bohdi_ray.driver import harvest_round
from bohdi_ray.errors import EngineFailed
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.fusion import fuse
from bohdi_ray.placement.pools import pools
from bohdi_ray.run.run_dir import RunDir

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]

# One round of one step: every walk sees the same tree, whatever became of another ticket.
ONE_STEP = {
    "meditation": {"steps": 1, "walks_per_step": 12},
    "stop": {"rounds": 1},
    "harvest": {"max_tasks_in_flight": 4, "tickets_per_task": 4},
}


@pytest.fixture
def faults(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "WATCH_EVERY_S", 0.2)
    (tmp_path / "faults").mkdir()
    return Faults(str(tmp_path / "faults"))


def samples_of(folder):
    return {sample.sample_id: sample for sample in SampleStore(RunDir.open(str(folder))).iter_samples()}


def content(sample):
    return sample.path, sample.question, sample.candidates, sample.verdict, sample.reward


@pytest.fixture(scope="module")
def undisturbed(ray_session, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    fuse(scripted_config(str(folder), **ONE_STEP), parts=scripted_parts())
    return samples_of(folder)


@pytest.mark.parametrize("model", [long(20, "bob"), "target"])
def test_a_deadly_request_is_quarantined_after_three_deaths_and_costs_its_own_ticket_only(
    tmp_path, faults, undisturbed, model, capsys
):
    victim = next(sample for sample in undisturbed.values() if sample.leader != model)  # so that it does not judge
    faults.poison(model, victim.question)

    parts = scripted_parts(answer_s=0.05, faults=faults)
    summary = fuse(scripted_config(str(tmp_path / "run"), **ONE_STEP), parts=parts)

    (name,) = (path.name for path in (tmp_path / "run" / "quarantine").iterdir())
    assert name.startswith(f"part-{victim.sample_id}-") and name in capsys.readouterr().err
    (row,) = pq.read_table(tmp_path / "run" / "quarantine" / name).to_pylist()
    assert (row["ticket_id"], row["model"], row["prompt"]) == (victim.sample_id, model, victim.question)
    assert [death["alone"] for death in row["deaths"]] == [False, False, True]
    assert len({death["replica_id"] for death in row["deaths"]}) == 3

    assert summary.failures == {"request_quarantined": 1}
    after = samples_of(tmp_path / "run")
    assert set(undisturbed) - set(after) == {victim.sample_id}
    assert all(content(sample) == content(undisturbed[name]) for name, sample in after.items())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["part"] for line in lines if line["kind"] == "quarantined"] == [name]
    assert [line["num_replaced"] for line in lines if line["kind"] == "engines"][-1] == 3


def test_engines_that_die_of_every_request_end_the_run_instead_of_failing_ticket_after_ticket(
    tmp_path, faults, monkeypatch
):
    monkeypatch.setattr(harvest_round, "MOST_QUARANTINED", 2)
    faults.poison("target", "")
    with pytest.raises(EngineFailed, match=r"2 requests were quarantined in round 0.*bohdi resume"):
        fuse(scripted_config(str(tmp_path / "run"), **ONE_STEP), parts=scripted_parts(faults=faults))
    assert len(list((tmp_path / "run" / "quarantine").iterdir())) >= 2
