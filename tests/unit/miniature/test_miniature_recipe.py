"""The configuration a miniature comes with, and what its commands refuse."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from bohdi_ray.cli import main
from bohdi_ray.cli.miniature import build as build_command
from bohdi_ray.config.loading import load_config
from bohdi_ray.engines.prompts import load_templates
from bohdi_ray.studies.miniature.build import BUILD
from bohdi_ray.studies.miniature.curriculum import NUM_PROPOSALS
from bohdi_ray.studies.miniature.recipe import CONFIG, write_config, write_templates
from bohdi_ray.studies.miniature.sizes import KINDS, SIZES
from bohdi_ray.studies.miniature.truth import write_world
from bohdi_ray.studies.miniature.world import STYLES, make_world


@pytest.mark.parametrize("name", SIZES)
def test_the_configuration_asks_as_the_models_were_taught(tmp_path, name):
    size = SIZES[name]
    templates = write_templates(tmp_path)
    write_config(size, 3, tmp_path)
    for spec in size.models:
        (tmp_path / "models" / spec.name).mkdir(parents=True)
    config = load_config(tmp_path / CONFIG)
    assert config.seed == 3 and config.run_dir == str(tmp_path / "runs" / "{time}")
    assert [source.name for source in config.sources] == [spec.name for spec in size.sources]
    assert config.target.model == str(tmp_path / "models" / size.models[-1].name)
    assert tuple(config.harvest.styles) == STYLES and load_templates(config.harvest.prompts) == templates
    assert config.sprout.proposals_per_source == NUM_PROPOSALS
    assert tuple(config.tree.level_names or ()) == size.world.level_names
    assert config.tree.depth == len(size.world.branching)
    assert config.judge.kind == "consensus"
    assert (config.harvest.min_question_chars, config.harvest.min_answer_chars) == (30, 30)


def test_a_folder_that_holds_something_is_not_built_over(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = CliRunner().invoke(main, ["miniature", "build", str(tmp_path)])
    assert done.exit_code == 2 and "already exists" in done.output
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_what_was_not_built_whole_is_not_fused(tmp_path):
    size = SIZES["tiny"]
    write_world(make_world(0, size.world, ("llama", "qwen", "gemma"), "target"), tmp_path)
    done = CliRunner().invoke(main, ["miniature", "fuse", str(tmp_path)])
    assert done.exit_code == 2 and "holds no complete miniature" in done.output


def test_a_run_on_an_object_store_is_refused_before_it_starts(tmp_path):
    size = SIZES["tiny"]
    write_world(make_world(0, size.world, ("llama", "qwen", "gemma"), "target"), tmp_path)
    write_config(size, 0, tmp_path)
    (tmp_path / BUILD).write_text("{}")
    for folder in ("prompts", *(f"models/{spec.name}" for spec in size.models)):
        (tmp_path / folder).mkdir(parents=True)
    done = CliRunner().invoke(main, ["miniature", "fuse", str(tmp_path), "run_dir=s3://bucket/run"])
    assert done.exit_code == 2 and "is an address" in done.output


def test_the_command_offers_every_size_and_kind():
    """It names them itself, so that `bohdi --help` loads none of what they are made of."""
    choices = {
        option.name: list(option.type.choices) for option in build_command.params if option.name in ("size", "kind")
    }
    assert choices == {"size": list(SIZES), "kind": list(KINDS)}
