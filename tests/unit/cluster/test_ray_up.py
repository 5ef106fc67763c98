"""ray_cluster.yaml: what can be said of it without Ray. tests/integration/test_recipes.py asks Ray itself."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from recipe_files import ROOT, documents


@pytest.fixture
def recipe():
    return documents(ROOT / "ray_cluster.yaml")[0]


def rays_schema():
    """Read where Ray is installed, without importing it."""
    (package,) = importlib.util.find_spec("ray").submodule_search_locations
    return json.loads((Path(package) / "autoscaler/ray-schema.json").read_text())


def test_rays_schema_takes_it_and_finds_what_is_wrong(recipe):
    jsonschema.validate(recipe, rays_schema())
    recipe["available_node_types"]["sources"]["min_worker"] = 0
    with pytest.raises(jsonschema.ValidationError, match="min_worker"):
        jsonschema.validate(recipe, rays_schema())


def test_the_head_has_no_gpu_and_gpus_come_from_zero(recipe):
    types = recipe["available_node_types"]
    assert recipe["head_node_type"] == "head" and types["head"]["resources"]["GPU"] == 0
    assert types["head"]["max_workers"] == 0
    workers = {name: kind for name, kind in types.items() if name != "head"}
    assert set(workers) == {"trainer", "sources"}
    for name, kind in workers.items():
        assert kind["min_workers"] == 0 < kind["max_workers"] and kind["resources"]["GPU"] > 0
        assert kind["labels"] == {"bohdi-group": name}
    assert recipe["max_workers"] >= sum(kind["max_workers"] for kind in workers.values())


def test_only_sources_are_on_spot(recipe):
    market = {
        name: kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType", "on demand")
        for name, kind in recipe["available_node_types"].items()
    }
    assert market == {"head": "on demand", "trainer": "on demand", "sources": "spot"}


def test_every_start_of_ray_asks_for_the_token_that_is_copied_there(recipe):
    assert recipe["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for commands in (recipe["head_start_ray_commands"], recipe["worker_start_ray_commands"]):
        (start,) = [command for command in commands if "ray start" in command]
        assert start.index("RAY_AUTH_MODE=token") < start.index("ray start")


def test_what_is_copied_to_the_nodes_is_there_and_all_that_the_installation_needs(recipe):
    copied = {remote: local for remote, local in recipe["file_mounts"].items() if local.startswith("./")}
    for local in copied.values():
        assert (ROOT / local).exists(), local
    project = {remote.removeprefix("~/bohdi_ray/") for remote in copied}
    # pyproject.toml names the readme and the licence; without them it cannot be installed.
    assert project == {"requirements", "bohdi_ray", "pyproject.toml", "README.md", "LICENSE"}
    assert any("--no-deps -r ~/bohdi_ray/requirements/gpu.txt" in command for command in recipe["setup_commands"])


def test_shellcheck_has_nothing_to_say_about_its_commands(recipe):
    lists = ("setup_commands", "head_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    script = "\n".join(command for name in lists for command in recipe[name])
    # SC2016: what sed writes into .bashrc is to be expanded there.
    command = [Path(sys.executable).parent / "shellcheck", "--shell=bash", "--exclude=SC2016", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
