"""Settings with which nothing could be learned, and inputs that count for nothing, are refused."""

import pytest

from bohdi_ray.config.loading import parse_config
from bohdi_ray.preflight import preflight


def refused(tmp_path, **sections):
    model = {"model": "org/m"}
    plain = {"run_dir": str(tmp_path / "run"), "sources": [{"name": "s", **model}], "target": {"name": "t", **model}}
    return {error.field: str(error) for error in preflight(parse_config({**plain, **sections}), None).problems}


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"training": {"learning_rate": 0}}, "training.learning_rate"),
        ({"training": {"schedule": {"warmup_steps": 10_000}}}, "training.schedule.warmup_steps"),
        ({"training": {"betas": [1.0, 0.999]}}, "training.betas"),
        ({"training": {"betas": [0.9, -0.1]}}, "training.betas"),
        ({"training": {"learning_rate": 0.1, "weight_decay": 10}}, "training.weight_decay"),
        ({"harvest": {"heldout_fraction": 0.999}}, "harvest.heldout_fraction"),
        ({"harvest": {"heldout_fraction": 0.9}, "meditation": {"steps": 1, "walks_per_step": 9}}, "harvest.heldout"),
    ],
)
def test_a_run_that_would_learn_nothing_is_refused(tmp_path, sections, field):
    (found,) = refused(tmp_path, **sections)
    assert found.startswith(field)


def test_small_runs_that_learn_are_not_refused(tmp_path):
    assert refused(tmp_path) == {}
    training = {"learning_rate": 1e-9, "schedule": {"warmup_steps": 2, "kind": "cosine"}, "weight_decay": 0.1}
    assert refused(tmp_path, training=training, stop={"rounds": 1}, harvest={"heldout_fraction": 0.5}) == {}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "replaces no template"),
        (["README.md"], "replaces no template"),
        (["answers.jinja"], "replaces no template"),
        (["answer.jinja", "question.txt"], "question.txt"),
        (["answer.jinja2"], "answer.jinja2"),
        (["Answer.j2"], "Answer.j2"),
    ],
)
def test_a_prompts_folder_that_replaces_nothing_is_refused(tmp_path, files, words):
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("{{ question }}")
    assert words in refused(tmp_path, harvest={"prompts": str(folder)})["harvest.prompts"]


def test_a_prompts_folder_may_hold_notes_beside_its_templates(tmp_path):
    (tmp_path / "answer.jinja").write_text("{{ question }}")
    (tmp_path / "NOTES.md").write_text("mine")
    assert refused(tmp_path, harvest={"prompts": str(tmp_path)}) == {}


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "[]", "{}"])
def test_a_file_of_starting_domains_without_any_is_refused(tmp_path, text):
    (tmp_path / "seed.yaml").write_text(text)
    assert "names no domain" in refused(tmp_path, tree={"seed": str(tmp_path / "seed.yaml")})["tree.seed"]
