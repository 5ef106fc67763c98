"""Sources that stay down are left out while enough others are there, and taken back when they return."""

import json
import time

import pytest
from scripted_parts import Faults, at_second_start, scripted_config, scripted_parts

from bohdi_ray.errors import EngineFailed
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.fusion import fuse
from bohdi_ray.placement.pools import pools
from bohdi_ray.run.run_dir import RunDir

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]

HARVEST = {"max_tasks_in_flight": 4, "tickets_per_task": 4, "max_staleness": 0}
SMALL = {"meditation": {"steps": 2, "walks_per_step": 6}, "stop": {"rounds": 2}, "harvest": HARVEST}
BOB_IS_REMOTE = {
    "sources": [
        {"kind": "vllm", "name": "ada", "model": "./none"},
        {"kind": "openai", "name": "bob", "model": "bob", "base_url": "http://none/v1"},
        {"kind": "vllm", "name": "cyd", "model": "./none"},
    ]
}


@pytest.fixture
def faults(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "WATCH_EVERY_S", 0.2)
    (tmp_path / "faults").mkdir()
    return Faults(str(tmp_path / "faults"))


def run(folder, faults, answer_s=0.0, **changes):
    config = scripted_config(str(folder / "run"), **{**SMALL, **changes})
    return fuse(config, parts=scripted_parts(answer_s=answer_s, faults=faults))


def notices(folder):
    lines = map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
    return [(line["kind"], line["model"], line["sources"]) for line in lines if line["kind"].startswith("source_")]


def candidates_by_sample(folder):
    """Models that answered, in order of the samples."""
    samples = SampleStore(RunDir.open(str(folder / "run"))).iter_samples()
    return [tuple(candidate.model for candidate in sample.candidates) for sample in samples]


LEFT = ("ada", "cyd", "target")
ALL = ("ada", "bob", "cyd", "target")


def test_a_source_that_never_starts_is_left_out_and_said_to_be(tmp_path, faults, capsys):
    faults.arm("start-bob", times=50)
    summary = run(tmp_path, faults)
    assert set(candidates_by_sample(tmp_path)) == {LEFT}
    assert notices(tmp_path) == [("source_left_out", "bob", ["ada", "cyd"])]
    assert summary.samples.wins["bob"] == 0 and summary.num_accepted > 0
    assert summary.samples.absent == {"ada": 0, "bob": summary.num_accepted, "cyd": 0}
    said = capsys.readouterr().err
    assert "source bob is LEFT OUT" in said and "did not start after 3 tries" in said and "scripted: no start" in said


def test_a_source_that_dies_for_a_while_is_left_out_and_taken_back(tmp_path, faults, monkeypatch):
    monkeypatch.setattr(pools, "FIRST_PAUSE_S", 1.0)
    faults.arm("die-bob")
    # The three tries of the replacement fail, and the first one to bring it back.
    parts = at_second_start(
        scripted_parts(answer_s=0.2, faults=faults), "bob", lambda: faults.arm("start-bob", times=4)
    )
    config = scripted_config(str(tmp_path / "run"), **{**SMALL, "stop": {"rounds": 6}})
    fuse(config, parts=parts)
    assert notices(tmp_path) == [
        ("source_left_out", "bob", ["ada", "cyd"]),
        ("source_back", "bob", ["ada", "bob", "cyd"]),
    ]
    answered = candidates_by_sample(tmp_path)
    assert set(answered) == {LEFT, ALL}, "every sample is one of a single set of sources"
    assert answered[-1] == ALL, "it takes part again"


@pytest.mark.long(15)
def test_a_server_that_cannot_be_reached_for_a_while_is_left_out_and_taken_back(tmp_path, faults, monkeypatch):
    monkeypatch.setattr(pools, "FIRST_PAUSE_S", 1.0)
    faults.arm("refuse-bob")
    # The replacement's ping fails, and the first one to bring it back.
    parts = at_second_start(scripted_parts(answer_s=0.2, faults=faults), "bob", lambda: faults.arm("ping-bob", times=2))
    config = scripted_config(str(tmp_path / "run"), **{**SMALL, "stop": {"rounds": 6}}, **BOB_IS_REMOTE)
    fuse(config, parts=parts)
    assert [kind for kind, *_ in notices(tmp_path)] == ["source_left_out", "source_back"]
    answered = candidates_by_sample(tmp_path)
    assert set(answered) == {LEFT, ALL} and answered[-1] == ALL


@pytest.mark.long(15)
def test_a_single_failure_of_a_server_that_answers_again_changes_nothing(tmp_path, faults):
    alone = fuse(scripted_config(str(tmp_path / "alone"), **SMALL, **BOB_IS_REMOTE), parts=scripted_parts())
    faults.arm("refuse-bob")
    summary = run(tmp_path, faults, **BOB_IS_REMOTE)
    assert summary.tree_digest == alone.tree_digest and notices(tmp_path) == []
    assert set(candidates_by_sample(tmp_path)) == {ALL}


@pytest.mark.long(10)
def test_fewer_sources_at_the_start_than_asked_for_end_the_run_and_say_what_to_do(tmp_path, faults):
    faults.arm("start-bob", times=3)
    harvest = {"harvest": {**HARVEST, "min_sources": 3}}
    with pytest.raises(EngineFailed, match=r"2 of 3 sources are left.*bohdi resume.*lower harvest\.min_sources.*bob-2"):
        run(tmp_path, faults, **harvest)


def test_when_the_last_source_goes_the_run_ends_within_seconds(tmp_path, faults):
    faults.arm("start-bob", times=3)
    faults.arm("die-ada")
    parts = at_second_start(scripted_parts(faults=faults), "ada", lambda: faults.arm("start-ada", times=3))
    sources = [{"kind": "vllm", "name": name, "model": "./none"} for name in ("ada", "bob")]
    started = time.monotonic()
    with pytest.raises(EngineFailed, match=r"0 of 2 sources are left.*bob: .*no start; ada: .*no start"):
        fuse(scripted_config(str(tmp_path / "run"), **SMALL, sources=sources), parts=parts)
    assert time.monotonic() - started < 60
