"""Layout, refusals, atomic writes and committed folders of the run directory."""

from __future__ import annotations

import errno
import json
import pickle
from pathlib import Path

import pytest
import yaml

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import ConfigError, RunDirError
from bohdi_ray.languages.questions import TEXT_RULES
from bohdi_ray.run import filesystem
from bohdi_ray.run.environment import environment
from bohdi_ray.run.run_dir import BASE_DIR, RunDir, check_new, checkpoint_dir, weights_dir


def test_a_new_run_holds_its_resolved_configuration_and_environment(run: RunDir, config: FusionConfig):
    assert run.config() == config
    assert yaml.safe_load(run.read_bytes("config.yaml"))["bandit"]["horizon"] == 3
    assert json.loads(run.read_bytes("environment.json")) == run.environment()
    assert run.environment() == {"bohdi_ray": "0.1.0", "text_rules": TEXT_RULES}
    assert run.names("") == ["config.yaml", "environment.json"]


@pytest.mark.parametrize("name", ["config.yaml", "tree/segment-00000000", "samples/part-r0000-s000.parquet"])
def test_a_directory_that_holds_a_run_is_refused_with_a_remedy(tmp_path: Path, config: FusionConfig, name: str):
    RunDir(tmp_path).write_bytes(name, b"x")
    with pytest.raises(ConfigError, match=r"already holds a run.*Choose another run_dir") as caught:
        RunDir.create(tmp_path, config, {})
    assert caught.value.field == "run_dir" and caught.value.value == str(tmp_path)


def test_a_read_only_directory_is_refused_even_for_root(tmp_path: Path, config: FusionConfig):
    tmp_path.chmod(0o555)
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        RunDir.create(tmp_path, config, {})
    tmp_path.chmod(0o755)
    assert caught.value.field == "run_dir" and list(tmp_path.iterdir()) == []


def test_a_new_directory_below_a_read_only_one_is_refused(tmp_path: Path, config: FusionConfig):
    tmp_path.chmod(0o555)
    with pytest.raises(ConfigError, match="cannot be written"):
        RunDir.create(tmp_path / "a" / "b", config, {})
    tmp_path.chmod(0o755)
    assert list(tmp_path.iterdir()) == []


def test_a_path_below_a_file_is_refused(tmp_path: Path, config: FusionConfig):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"):
        RunDir.create(tmp_path / "file" / "run", config, {})


def test_an_unknown_kind_of_address_is_refused():
    with pytest.raises(ConfigError, match=r"no known filesystem.*Use a path"):
        RunDir("ftp://somewhere/run")


def test_checking_a_new_place_leaves_no_file(tmp_path: Path):
    check_new(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_opening_needs_a_run(tmp_path: Path):
    with pytest.raises(RunDirError, match="holds no run"):
        RunDir.open(tmp_path)


def test_a_run_reopens_after_pickling(run: RunDir):
    again = pickle.loads(pickle.dumps(run))
    assert again.config() == run.config()
    assert again.path("samples") == run.path("samples")


def test_addresses_with_a_scheme_name_the_same_place(tmp_path: Path, config: FusionConfig):
    RunDir.create(f"file://{tmp_path}/run", config, {})
    assert RunDir.open(tmp_path / "run").is_local
    assert RunDir(f"file://{tmp_path}/run").path("x") == str(tmp_path / "run" / "x")


def test_a_failed_write_leaves_the_old_content_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = RunDir(tmp_path)
    run.write_bytes("tree/a", b"old")

    def full_disk(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filesystem.os, "fsync", full_disk)
    with pytest.raises(RunDirError, match="the disk is full"):
        run.write_bytes("tree/a", b"new")
    assert run.read_bytes("tree/a") == b"old"
    assert [path.name for path in (tmp_path / "tree").iterdir()] == ["a"]


def test_a_file_still_being_written_does_not_show(tmp_path: Path):
    run = RunDir(tmp_path)
    run.write_bytes("samples/a", b"1")
    (tmp_path / "samples" / "b.tmp-0123abcd").write_bytes(b"half")
    assert run.names("samples") == ["a"]
    assert run.names("nowhere") == []


def test_version_v_lies_in_the_checkpoint_of_round_v_minus_1():
    assert weights_dir(0) == "checkpoints/base/weights"
    assert weights_dir(3) == checkpoint_dir(2) + "/weights" == "checkpoints/round-2/weights"


def test_only_committed_checkpoints_count_and_others_are_cleaned_up(run: RunDir):
    for round in (0, 2, 10, 11):
        run.write_bytes(f"{checkpoint_dir(round)}/weights/model.safetensors", b"w")
    for round in (0, 2, 10):
        run.commit(checkpoint_dir(round), {"round": round})
    run.write_bytes(f"{BASE_DIR}/weights/model.safetensors", b"w")
    assert run.committed_rounds() == [0, 2, 10]
    assert run.is_committed(10) and not run.is_committed(11)
    assert run.commit_facts(checkpoint_dir(2))["round"] == 2
    assert run.clean_uncommitted() == [checkpoint_dir(11), BASE_DIR]
    assert run.names("checkpoints") == ["round-0", "round-10", "round-2"]
    assert run.commit_facts(BASE_DIR) is None


def test_the_environment_tells_versions_and_no_variables(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_API_KEY", "hunter2-in-environment")
    facts = environment()
    assert facts["packages"]["pyarrow"] and facts["num_cpus"] >= 1
    assert "hunter2-in-environment" not in json.dumps(facts)
