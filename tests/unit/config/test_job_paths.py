"""Where things are in a Ray job, whose working directory is a temporary copy."""

from pathlib import Path

import pytest

from bohdi_ray.config.job_paths import (
    HOME,
    RAYS_JOB,
    STOP_WAIT,
    base_of_runs,
    job_notices,
    kept_inputs,
    run_location,
    stop_wait_s,
)
from bohdi_ray.config.loading import load_config, parse_config
from bohdi_ray.errors import ConfigErrors
from bohdi_ray.preflight.run_dir import run_dir_errors


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The working directory of a job, as Ray unpacks it."""
    folder = tmp_path / "session_2026-03-04_05-06-07_8_9/runtime_resources/working_dir_files/_ray_pkg_0f"
    (folder / "prompts").mkdir(parents=True)
    (folder / "seed.yaml").write_text("Science: [Physics]\n")
    (folder / "prompts" / "judge.jinja").write_text("judge")
    monkeypatch.chdir(folder)
    monkeypatch.setenv(HOME, str(tmp_path / "kept"))
    monkeypatch.setenv(RAYS_JOB, "{}")
    monkeypatch.delenv(STOP_WAIT, raising=False)
    return folder


def config(run_dir="runs/x", **changes):
    source = {"name": "a", "model": "owner/name"}
    return {"run_dir": run_dir, "sources": [source], "target": {"name": "t", "model": "/models/t"}, **changes}


def test_outside_of_a_job_a_run_lies_where_the_user_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(HOME, "/elsewhere")
    assert base_of_runs() == tmp_path and run_location("runs/x") == f"{tmp_path}/runs/x"
    assert job_notices(parse_config(config())) == []


def test_in_a_job_a_relative_run_lies_in_a_folder_that_stays(package, tmp_path, monkeypatch):
    (package / "fusion.yaml").write_text(
        "run_dir: runs/x\nsources: [{name: a, model: o/n}]\ntarget: {name: t, model: o/t}"
    )
    assert load_config("fusion.yaml").run_dir == f"{tmp_path}/kept/runs/x" == run_location("runs/x")
    assert load_config("fusion.yaml", ["run_dir=/shared/x"]).run_dir == "/shared/x"
    assert run_location("s3://bucket/x") == "s3://bucket/x"
    monkeypatch.delenv(HOME)
    assert base_of_runs() == Path.home()
    assert "home directory" in job_notices(load_config("fusion.yaml"))[0]


def test_a_run_directory_in_rays_folder_is_refused(package):
    (error,) = run_dir_errors(str(package / "runs" / "x"))
    assert error.field == "run_dir" and "Ray removes" in error.rule
    assert run_dir_errors(str(package.parents[3] / "session_notes" / "x")) == []


def test_a_job_that_would_be_killed_before_its_drain_says_so(package, monkeypatch):
    settings = parse_config(config(deadlines={"drain_s": 20}))
    assert "kills this job 3 s after it asked" in job_notices(settings)[1]
    monkeypatch.setenv(STOP_WAIT, str(stop_wait_s(20)))
    assert len(job_notices(settings)) == 1 and stop_wait_s(20) >= 2 * 20


def test_what_came_with_the_package_is_kept_in_the_run_and_a_resume_finds_it_again(package, tmp_path):
    given = {"tree": {"seed": str(package / "seed.yaml")}, "harvest": {"prompts": str(package / "prompts")}}
    settings = parse_config(config(f"{tmp_path}/run", **given))
    kept = kept_inputs(settings)
    seed, prompts = Path(kept.tree.seed), Path(kept.harvest.prompts)
    assert {seed, prompts} == {tmp_path / "run" / "inputs" / "seed.yaml", tmp_path / "run" / "inputs" / "prompts"}
    assert seed.read_text() == "Science: [Physics]\n" and (prompts / "judge.jinja").read_text() == "judge"
    assert kept_inputs(kept) is kept, "they are in the run already"
    assert kept_inputs(settings, resume=True) == kept
    (package / "seed.yaml").write_text("Science: [Optics]\n")
    other = kept_inputs(settings, resume=True)
    assert other.tree.seed == settings.tree.seed and other.harvest == kept.harvest, "another seed is another run"
    assert seed.read_text() == "Science: [Physics]\n"


def test_a_run_that_is_there_keeps_its_inputs(package, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    settings = parse_config(config(f"{tmp_path}/run", tree={"seed": str(package / "seed.yaml")}))
    assert kept_inputs(settings) == settings and not (tmp_path / "run" / "inputs").exists()


def test_inputs_of_a_package_and_an_object_store_are_refused(package):
    settings = parse_config(config("s3://bucket/x", tree={"seed": str(package / "seed.yaml")}))
    with pytest.raises(ConfigErrors) as caught:
        kept_inputs(settings)
    assert [error.field for error in caught.value.errors] == ["tree.seed"]
