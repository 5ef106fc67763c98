"""A request that was set aside can be asked again from its part alone."""

import json

import pyarrow.parquet as pq
import pytest

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import RunDirError
from bohdi_ray.records import GenerationRequest, SamplingSpec, ScoreRequest
from bohdi_ray.run.lease import Lease
from bohdi_ray.run.quarantine import Case, Death, Quarantine, part_name
from bohdi_ray.run.run_dir import RunDir

CONFIG = FusionConfig.model_validate(
    {
        "run_dir": "./none",
        "sources": [
            {"name": "ada", "model": "org/ada", "revision": "abc123", "system_prompt": "Be brief."},
            {"kind": "openai", "name": "bob", "model": "b", "base_url": "http://x/v1", "api_key": "env:BOB"},
        ],
        "target": {"name": "student", "model": "./student"},
    }
)
SAMPLING = SamplingSpec(temperature=0.7, top_p=0.95, max_tokens=64, seed=2**31 - 1)
DEATHS = (Death("ada-0", "killed", 1.5, False), Death("ada-1", "killed", 2.5, False), Death("ada-2", "died", 3.5, True))


def request(request_id="r0003-s001-t00012/answer/ada/0", prompt="Why?", **more):
    return GenerationRequest(request_id, "answer", prompt, SAMPLING, **more)


@pytest.fixture
def quarantine(tmp_path):
    return Quarantine.of(CONFIG, RunDir(str(tmp_path / "run")), None)


def written(quarantine, case):
    name = quarantine.write(case)
    (row,) = pq.read_table(quarantine.run.path(f"quarantine/{name}")).to_pylist()
    return row


def test_a_part_holds_what_reproduces_the_request(quarantine):
    row = written(quarantine, Case(request(regex="[A-Z]+"), "ada", 0, DEATHS))
    again = GenerationRequest(
        row["request_id"],
        row["role"],
        row["prompt"],
        SamplingSpec(row["temperature"], row["top_p"], row["max_tokens"], row["seed"]),
        choices=row["choices"],
        regex=row["regex"],
    )
    assert again == request(regex="[A-Z]+")
    assert (row["ticket_id"], row["round"], row["step"]) == ("r0003-s001-t00012", 3, 1)
    assert (row["model"], row["model_path"], row["model_revision"]) == ("ada", "org/ada", "abc123")
    assert (row["system_prompt"], row["weights_version"]) == ("Be brief.", 0)
    assert json.loads(row["model_settings"])["engine"]["max_num_seqs"] == 256
    assert [Death(**death) for death in row["deaths"]] == list(DEATHS)
    assert row["run"] == quarantine.run.location


def test_the_targets_part_says_where_the_weights_of_that_version_lie(quarantine):
    row = written(quarantine, Case(request(choices=("A", "B")), "student", 3, DEATHS))
    assert row["model_path"] == f"{quarantine.run.location}/checkpoints/round-2/weights" and row["weights_version"] == 3
    assert row["choices"] == ["A", "B"] and row["regex"] is None


def test_a_remote_source_and_a_score_are_told_apart_and_no_key_is_written(quarantine, monkeypatch):
    monkeypatch.setenv("BOB", "sk-very-secret")
    score = ScoreRequest("r0000-s000-t00000/score/bob/1", "judge", "Why?", "Because.")
    row = written(quarantine, Case(score, "bob", 0, DEATHS))
    assert (row["scored_answer"], row["temperature"], row["model_revision"]) == ("Because.", None, None)
    settings = json.loads(row["model_settings"])
    assert (settings["base_url"], settings["api_key"]) == ("http://x/v1", "env:BOB")
    assert "sk-very-secret" not in str(row)


def test_a_request_for_names_has_no_ticket(quarantine):
    asked = GenerationRequest("sprout/Science/Optics/3/ada/0", "sprout", "Names?", SAMPLING, regex="[A-Z]+")
    row = written(quarantine, Case(asked, "ada", 0, DEATHS))
    assert (row["ticket_id"], row["round"], row["step"]) == (None, None, None)


@pytest.mark.parametrize(
    "request_id",
    ["r0003-s001-t00012/answer/ada/0", "sprout/../../etc/passwd/0/ada/1", "sprout/\ud800/\n/0/ada/1", "", "r1/../x"],
)
def test_names_follow_from_the_id_and_hold_no_text_of_a_model(request_id):
    name = part_name(request_id)
    assert name == part_name(request_id) != part_name(request_id + "/1")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.") and "/" not in name and ".." not in name


def test_writing_again_leaves_one_part(quarantine):
    case = Case(request(), "ada", 0, DEATHS)
    assert quarantine.write(case) == quarantine.write(case)
    assert len(quarantine.run.names("quarantine")) == 1


def test_text_that_utf_8_cannot_hold_is_written_as_escapes(quarantine):
    row = written(quarantine, Case(request(prompt="a\ud800b\x00c"), "ada", 0, (Death("ada-0", "\udfff", 1.0, True),)))
    assert (row["prompt"], row["deaths"][0]["error"]) == ("a\\ud800b\x00c", "\\udfff")


def test_nothing_is_written_for_a_driver_that_has_lost_the_run(tmp_path):
    run = RunDir(str(tmp_path / "run"))
    lease = Lease(run)
    lease.acquire()
    quarantine = Quarantine.of(CONFIG, run, lease.claim)
    quarantine.write(Case(request(), "ada", 0, DEATHS))
    lease.release()
    with pytest.raises(RunDirError, match="lease"):
        quarantine.write(Case(request("r0000-s000-t00001/answer/ada/0"), "ada", 0, DEATHS))
    assert len(run.names("quarantine")) == 1
