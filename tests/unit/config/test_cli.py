"""The command line: what it prints, and the codes it ends with."""

import json
import pickle
import socket
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from ray.exceptions import GetTimeoutError, RayTaskError

import bohdi_ray.fusion as fusion
from bohdi_ray import __version__
from bohdi_ray.cli import main
from bohdi_ray.cli.errors import exit_code
from bohdi_ray.config.loading import load_config, parse_config
from bohdi_ray.errors import (
    SEE_LOGS,
    ConfigError,
    ConfigErrors,
    DeadlineExceeded,
    EngineFailed,
    Interrupted,
    RunDirError,
    TrainingFailed,
)
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.names import read_seeds

ROOT = Path(__file__).parents[3]
PAPER = str(ROOT / "jobs/configs/paper.yaml")


def bohdi(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def fused(monkeypatch):
    """Replaces the fusion itself; what it was called with, and an error for it to raise."""
    calls = {"error": None}

    def fake(config, *, resume=False, reset_optimizer=False, address=None):
        calls.update(config=config, resume=resume, reset_optimizer=reset_optimizer, address=address)
        if calls["error"] is not None:
            raise calls["error"]

    monkeypatch.setattr(fusion, "fuse", fake)
    return calls


@pytest.fixture
def config_file(make_model, tmp_path):
    folder = str(make_model())
    sampling = {"answer": {"max_tokens": 128}}
    path = tmp_path / "fusion.yaml"
    plain = {
        "run_dir": str(tmp_path / "runs" / "{time}"),
        "sources": [{"name": "s", "model": folder, "sampling": sampling}],
        "target": {"name": "t", "model": folder, "sampling": sampling},
    }
    path.write_text(yaml.safe_dump(plain))
    return path


def test_version_and_help():
    assert __version__ in bohdi("--version").output
    page = bohdi("--help").output
    assert all(command in page for command in ("fuse", "resume", "plan", "tree", "export", "prepare-quickstart"))
    assert "2 the input was refused" in page


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("a", 1, "b", "c"), 2),
        (ConfigErrors([ConfigError("a", 1, "b", "c")]), 2),
        (RunDirError("taken"), 2),
        (EngineFailed("dead"), 1),
        (TrainingFailed("dead"), 1),
        (DeadlineExceeded("an engine", 3, "wait"), 1),
        (Interrupted("stopped"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_has_its_exit_code_and_is_text_without_a_traceback(fused, config_file, error, code):
    fused["error"] = error
    done = bohdi("fuse", config_file)
    assert done.exit_code == code == exit_code(error)
    assert "Traceback" not in done.output
    assert str(error) in done.output


def test_a_bug_keeps_its_traceback(fused, config_file):
    fused["error"] = AssertionError("ours")
    with pytest.raises(AssertionError):
        bohdi("fuse", config_file)


def test_what_ray_raises_is_one_line_that_says_where_the_logs_are(fused, config_file):
    for error, words in [
        (GetTimeoutError("Get timed out.\nMore."), "GetTimeoutError: Get timed out"),
        (RayTaskError("work", "Traceback:\n  File\nValueError: no", ValueError("no")), "RayTaskError: ValueError: no"),
    ]:
        fused["error"] = error
        done = bohdi("fuse", config_file)
        assert done.exit_code == 1
        assert done.output == f"failed: {words}; {SEE_LOGS}\n"


@pytest.mark.parametrize("error", [ConnectionError("no node"), RuntimeError("authentication failed"), ValueError("")])
def test_a_cluster_that_cannot_be_joined_is_refused_with_its_address(monkeypatch, config_file, error):
    def refuse(**_):
        raise error

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("bohdi_ray.placement.ray_session.ray.init", refuse)
    monkeypatch.setattr("bohdi_ray.placement.ray_session.knock", lambda address: None)
    done = bohdi("fuse", config_file, "--address", "nowhere:1")
    assert done.exit_code == 2 and "--address = 'nowhere:1': cannot be reached" in done.output
    assert str(error) in done.output and "RAY_AUTH_MODE" in done.output
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    assert "RAY_ADDRESS = 'elsewhere:1': cannot be reached" in bohdi("fuse", config_file).output
    assert not (config_file.parent / "runs").exists()


@pytest.mark.parametrize("command", ["fuse", "plan"])
def test_an_address_at_which_nothing_listens_is_refused_at_once(config_file, command):
    with socket.socket() as bound:  # not listening, so that nothing else can take the port meanwhile
        bound.bind(("127.0.0.1", 0))
        done = bohdi(command, config_file, "--address", f"127.0.0.1:{bound.getsockname()[1]}")
    assert done.exit_code == 2 and "nothing answers there" in done.output


def test_resume_takes_the_runs_own_configuration_and_overrides(fused, config_file, tmp_path):
    run = RunDir.create(tmp_path / "run", load_config(config_file), {})
    moved = tmp_path / "moved: 100 # [%]"
    Path(run.root).rename(moved)
    assert bohdi("resume", moved, "stop.rounds=7", "--address", "here:1").exit_code == 0
    assert (fused["config"].run_dir, fused["config"].stop.rounds) == (str(moved), 7)
    assert (fused["resume"], fused["address"]) == (True, "here:1")
    refused = bohdi("resume", tmp_path / "nothing")
    assert refused.exit_code == 2 and "holds no run" in refused.stderr
    assert bohdi("fuse", config_file, "--resume").exit_code == 0 and fused["resume"]
    assert bohdi("fuse", config_file).exit_code == 0 and not fused["resume"]


def test_the_optimizer_is_reset_only_where_a_run_is_gone_on_with(fused, config_file, tmp_path):
    run = RunDir.create(tmp_path / "run", load_config(config_file), {})
    assert bohdi("resume", run.location).exit_code == 0 and not fused["reset_optimizer"]
    assert bohdi("resume", run.location, "--reset-optimizer").exit_code == 0 and fused["reset_optimizer"]
    assert bohdi("fuse", config_file, "--resume", "--reset-optimizer").exit_code == 0 and fused["reset_optimizer"]
    assert bohdi("fuse", config_file, "--reset-optimizer").exit_code == 2


def test_fuse_hands_over_the_configuration_with_overrides_and_the_address(fused, config_file):
    assert bohdi("fuse", config_file, "stop.rounds=4", "--address", "ray://somewhere").exit_code == 0
    assert fused["config"].stop.rounds == 4 and fused["address"] == "ray://somewhere"
    assert pickle.loads(pickle.dumps(fused["config"])) == fused["config"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["stop.roundz=1"], "Did you mean `rounds`?"),
        (["target.temperature=-1"], "greater than or equal to 0"),
        (["stop.rounds"], "key.path=value"),
    ],
)
@pytest.mark.parametrize("command", ["fuse", "plan"])
def test_wrong_input_is_refused_before_anything_starts(fused, config_file, command, overrides, words):
    done = bohdi(command, config_file, *overrides)
    assert done.exit_code == 2 and words in done.output
    assert "config" not in fused


def test_plan_accepts_what_can_run_here(config_file):
    done = bohdi("plan", config_file)
    assert done.exit_code == 0, done.output
    assert "trainer worker 1 of 1" in done.output and "Nothing is known to be wrong." in done.output
    assert not (config_file.parent / "runs").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["target.model=/nowhere"], "there is no such folder"),
        (["harvest.prompts=/nowhere"], "harvest.prompts"),
        (["run_dir=/proc/bohdi"], "run_dir"),
        (["target.engine.max_model_len=100000"], "reads 2048 tokens"),
    ],
)
def test_plan_refuses_what_cannot_run_and_says_all_of_it(config_file, overrides, words):
    done = bohdi("plan", config_file, "target.sampling.answer.max_tokens=99999999", *overrides)
    assert done.exit_code == 2
    assert words in done.output and "Refused" in done.output


def test_plan_of_the_paper_says_what_is_needed_and_what_was_not_checked(monkeypatch):
    monkeypatch.setattr("bohdi_ray.placement.machines._cards", list)
    done = bohdi("plan", PAPER)
    assert done.exit_code == 0, done.output
    assert "in all: 8 GPU" in done.output
    assert "this machine has no GPU" in done.output
    assert "the hub was not asked" in done.output


def test_plan_places_the_paper_on_nodes_from_a_file(tmp_path):
    nodes = tmp_path / "nodes.yaml"
    nodes.write_text("- {name: big, num_cpus: 96, num_gpus: 4, memory_gb: 900, gpu_name: H100, count: 2}")
    done = bohdi("plan", PAPER, "--nodes", nodes)
    assert done.exit_code == 0, done.output
    assert "big-0 (4 GPU H100, 96 CPU):" in done.output and "trainer worker 4 of 4" in done.output
    assert "72.0 GB per GPU" in done.output
    nodes.write_text("- {name: small, num_cpus: 96, num_gpus: 7}")
    done = bohdi("plan", PAPER, "--nodes", nodes)
    assert done.exit_code == 2
    assert "needs 8 GPUs and there are 7" in done.output


def test_plan_on_a_machine_with_too_few_gpus_refuses(monkeypatch):
    monkeypatch.setattr("bohdi_ray.placement.machines._cards", lambda: [("NVIDIA L4", 24.0)])
    assert bohdi("plan", PAPER).exit_code == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "3",
        "[]",
        "- 3",
        "- {num_gpus: 1}",
        "- {num_cpus: -1}",
        "- {num_cpus: 1, gpus: 2}",
        "a: [",
        "- {num_cpus: true}",
    ],
)
def test_a_file_that_lists_no_nodes_is_refused(tmp_path, content):
    nodes = tmp_path / "nodes.yaml"
    nodes.write_text(content)
    done = bohdi("plan", PAPER, "--nodes", nodes)
    assert done.exit_code == 2 and "--nodes" in done.output


def test_plan_takes_nodes_or_an_address():
    assert bohdi("plan", PAPER, "--nodes", "x", "--address", "y").exit_code == 2


def test_the_full_plan_prints_a_configuration_that_loads_again(config_file):
    output = bohdi("plan", config_file, "--full", "stop.rounds=2").output
    text = output[: output.index("\nRun\n")]
    assert parse_config(yaml.safe_load(text)).stop.rounds == 2


@pytest.fixture
def run_with_tree(make_model, tmp_path):
    seed = tmp_path / "seed.yaml"
    seed.write_text("Science:\n  Physics: [Optics, Mechanics]\nArts: {}\n")
    plain = {
        "run_dir": str(tmp_path / "run"),
        "sources": [{"name": "s", "model": "org/s"}],
        "target": {"name": "t", "model": "org/t"},
        "tree": {"seed": str(seed)},
    }
    config = parse_config(plain)
    run = RunDir.create(config.run_dir, config, {})
    manager = TreeManager(config, read_seeds(seed.read_text()))
    manager.open_round(0, 0)
    Segments(run).write_segment(0, manager.take_segment())
    return config.run_dir


def test_tree_shows_domains_with_posteriors_and_counts(run_with_tree):
    done = bohdi("tree", run_with_tree)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert "round 0, target version 0, 0 samples" in lines[0]
    assert [line.split(":")[0] for line in lines[2:]] == ["Arts", "Science", "  Physics", "    Mechanics", "    Optics"]
    assert "loses 0.50 (1, 1), 0 samples, unk 0.50" in lines[2]
    shallow = bohdi("tree", run_with_tree, "--depth", "1").output
    assert "Physics" not in shallow and "Science" in shallow


def test_tree_as_json_has_the_digest_and_every_node(run_with_tree):
    plain = json.loads(bohdi("tree", run_with_tree, "--json").output)
    assert len(plain["digest"]) >= 16 and plain["stats"]
    assert {child["name"] for child in plain["tree"]["children"]} == {"Science", "Arts"}


def test_tree_of_a_run_whose_seed_file_is_gone_names_it(run_with_tree, tmp_path):
    (tmp_path / "seed.yaml").unlink()
    done = bohdi("tree", run_with_tree)
    assert done.exit_code == 2 and "tree.seed" in done.output and "Restore the file" in done.output


@pytest.mark.parametrize("command", [["tree"], ["export", "out"]])
def test_what_is_no_run_is_refused(tmp_path, command):
    done = bohdi(command[0], tmp_path / "none", *[tmp_path / name for name in command[1:]])
    assert done.exit_code == 2 and "holds no run" in done.output


def test_export_of_a_run_without_samples_is_refused(run_with_tree, tmp_path):
    done = bohdi("export", run_with_tree, tmp_path / "out", "--format", "preference")
    assert done.exit_code == 2 and "Traceback" not in done.output


@pytest.mark.parametrize("arguments", [["simulate"], ["miniature", "fuse", "somewhere"]])
def test_a_command_whose_extra_is_not_installed_says_so(arguments, monkeypatch):
    monkeypatch.setattr("bohdi_ray.cli.errors.find_spec", lambda package: None)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "not installed: matplotlib" in done.output and "pip install 'bohdi_ray[studies]'" in done.output
