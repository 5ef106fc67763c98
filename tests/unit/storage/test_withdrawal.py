"""A run that is refused after its directory was made leaves nothing that blocks the next start."""

import pytest

from bohdi_ray.config.loading import parse_config
from bohdi_ray.errors import ConfigError, EngineFailed
from bohdi_ray.preflight.run_dir import run_dir_errors
from bohdi_ray.run.run_dir import BASE_DIR, CHECKPOINTS, CONFIG, SAMPLES, TREE, RunDir, check_new, checkpoint_dir
from bohdi_ray.run.withdrawal import withdraw, withdrawn_if_refused

MODEL = {"name": "s", "model": "./none"}


@pytest.fixture
def run(tmp_path):
    """A run as a start leaves it that got as far as its engines."""
    location = str(tmp_path / "run")
    config = parse_config({"run_dir": location, "sources": [MODEL], "target": {**MODEL, "name": "t"}})
    run = RunDir.create(location, config, {})
    for name in ("metrics.jsonl", "progress.json", "lease.json", f"{BASE_DIR}/weights/w", f"{CHECKPOINTS}/tmp/x"):
        run.write_bytes(name, b"{}")
    return run


def test_a_refused_start_leaves_a_directory_that_the_next_one_may_use(run, tmp_path):
    with pytest.raises(ConfigError), withdrawn_if_refused() as begun:
        begun.append(run)
        raise ConfigError("target.model", "x", "vLLM refuses it", "Mend it.")
    assert not (tmp_path / "run").exists()
    check_new(tmp_path / "run")


def test_what_is_not_the_runs_own_stays(run, tmp_path):
    run.write_bytes("notes.txt", b"mine")
    assert withdraw(run)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]
    check_new(tmp_path / "run")


@pytest.mark.parametrize(
    "harvested",
    [f"{TREE}/segment-00000000", f"{SAMPLES}/part-1.parquet", f"{checkpoint_dir(0)}/COMMIT", "summary.json"],
)
def test_a_run_that_holds_anything_is_never_taken_back(run, harvested):
    run.write_bytes(harvested, b"{}")
    assert not withdraw(run) and run.exists(CONFIG) and run.exists(harvested)


def test_a_failure_is_no_refusal_and_keeps_what_can_be_gone_on_with(run):
    with pytest.raises(EngineFailed), withdrawn_if_refused() as begun:
        begun.append(run)
        raise EngineFailed("gone")
    assert run.exists(CONFIG)


def test_the_preflight_says_of_a_run_whether_anything_is_in_it(run):
    (error,) = run_dir_errors(run.location)
    assert "already holds a run" in error.rule and "nothing was harvested in it" in error.remedy
    run.write_bytes(f"{TREE}/segment-00000000", b"{}")
    (error,) = run_dir_errors(run.location)
    assert "nothing was harvested" not in error.remedy and "bohdi resume" in error.remedy
    assert run_dir_errors(run.location, resume=True) == []
