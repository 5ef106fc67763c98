"""Tasks of one's own: where their data is looked for, and what is refused before anything starts."""

import json
import shutil

import pytest
from click.testing import CliRunner
from evaluation_tasks import choices, write_task, write_tasks
from scripted_parts import scripted_config, scripted_parts

from bohdi_ray.cli import main
from bohdi_ray.errors import ConfigError, ConfigErrors
from bohdi_ray.fusion import fuse

pytest.importorskip("lm_eval")
SETTINGS = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "doc_to_choice": "{{choices}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


ESSAY = {
    "output_type": "generate_until",
    "doc_to_text": "{{q}}",
    "doc_to_target": "{{q}}",
    "generation_kwargs": {"until": ["x"], "max_gen_toks": 100, "stop_at": 3},
}


def load(*words, **options):
    from bohdi_ray.evaluation.harness.tasks import load_tasks

    return load_tasks([str(word) for word in words], **options)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")


@pytest.mark.parametrize("place", ["beside", "above", "named"])
def test_data_is_found_where_people_put_it(tmp_path, place):
    folder = tmp_path / "data" / "yaml" / "deep"
    write_task(folder, "mine", choices(5), **SETTINGS)
    target = {"beside": folder, "above": folder.parent, "named": tmp_path / "data"}[place]
    if target != folder:
        shutil.move(folder / "mine.jsonl", target / "mine.jsonl")
    tasks = load(tmp_path / "data")
    assert [task.task_name for task in tasks.objects] == ["mine"] and len(tasks.objects[0].eval_docs) == 5


def test_a_group_in_a_folder_stands_for_its_tasks(tmp_path):
    write_tasks(tmp_path)
    group = "group: mine\ntask: [letters, endings]\naggregate_metric_list: [{metric: acc, weight_by_size: false}]\n"
    (tmp_path / "group.yaml").write_text(group)
    tasks = load(tmp_path)
    assert tasks.groups == {"mine": ["endings", "letters"]}
    assert len(tasks.objects) == 4, "the group, and three tasks that are in none"


def test_every_task_that_cannot_be_run_is_named_at_once(tmp_path):
    write_task(tmp_path / "a", "gone", choices(2), **SETTINGS)
    (tmp_path / "a" / "gone.jsonl").unlink()
    write_task(tmp_path / "a", "code", choices(2), **SETTINGS, unsafe_code=True)
    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path / "a", field="evaluate.tasks")
    text = str(caught.value)
    assert len(caught.value.errors) == 2 and {error.field for error in caught.value.errors} == {"evaluate.tasks"}
    assert "gone" in text and "--allow-code" in text
    (tmp_path / "a" / "gone.yaml").unlink()
    assert len(load(tmp_path / "a", allow_code=True).objects) == 1


def test_a_broken_file_is_named_with_what_is_wrong(tmp_path):
    write_task(tmp_path / "data", "broken", choices(3), **SETTINGS)
    (tmp_path / "data" / "broken.jsonl").write_text('{"question": "?"}\n{"question"\n')
    with pytest.raises(ConfigErrors, match=r"broken.*cannot be loaded: .*JSON"):
        load(tmp_path / "data")
    (tmp_path / "data" / "typo.yaml").write_text("task: typo\n  metric_list: [\n")
    with pytest.raises(ConfigError, match=r"typo\.yaml.*cannot be read: .*line 2"):
        load(tmp_path / "data")


def test_words_that_name_nothing_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigErrors) as caught:
        load("arc_eazy", tmp_path / "empty")
    text = str(caught.value)
    assert "arc_eazy" in text and "Suites: bohdi-paper" in text and "holds no task" in text


def test_a_task_whose_data_is_on_the_hub_is_refused_without_a_network():
    with pytest.raises(ConfigErrors, match=r"arc_easy.*cannot be loaded.*(?s:.*)data must be had"):
        load("arc_easy")


def test_the_suites_name_tasks_that_lm_eval_has():
    from lm_eval.tasks import TaskManager

    from bohdi_ray.evaluation.harness.suites import SUITES

    known = set(TaskManager().all_tasks)
    assert {name for names in SUITES.values() for name in names} <= known


def test_the_command_refuses_before_anything_starts(tmp_path, tiny_model_dir, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_tasks(tmp_path / "tasks")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))

    def said(*arguments):
        result = CliRunner().invoke(main, ["evaluate", *map(str, arguments)])
        assert result.exit_code == 2, result.output
        return result.output

    assert "no run, no folder and no hub id" in said("no model", "--tasks", tmp_path / "tasks")
    assert "--system needs --chat" in said(tmp_path / "model", "--tasks", "x", "--system", "Be brief.")
    assert "is no subject but the first" in said(tmp_path / "model", "--tasks", "x", "--against", "model")
    assert "has no tokenizer file in it" in said(tmp_path / "model", "--tasks", tmp_path / "tasks")
    (tmp_path / "model" / "config.json").write_text("{")
    assert "cannot be read" in said(tmp_path / "model", "--tasks", tmp_path / "tasks")
    assert "nobody/has-this" in said("nobody/has-this", "--tasks", tmp_path / "tasks")
    whole = tiny_model_dir("llama")
    assert "is no task of lm-eval" in said(whole, "--tasks", "nonsense")
    assert "is not there" in said(whole, "--tasks", "./nothing")
    for unusable in ("/proc/nothing", tmp_path / "tasks" / "letters.yaml"):
        assert "--out" in said(whole, "--tasks", tmp_path / "tasks", "--out", unusable)
    metric = said(whole, "--tasks", tmp_path / "tasks", "--metric", "letters=accuracy")
    assert "letters has the metrics acc, acc_norm" in metric
    short = said(whole, "--tasks", tmp_path / "tasks", "--set", "engine.max_model_len=64", "--set", "dtype=float64")
    assert "dtype" in short
    write_task(tmp_path / "long", "essay", [{"q": "?"}], **ESSAY)
    long = said(whole, "--tasks", tmp_path / "long", "--set", "engine.max_model_len=64")
    assert "asks for texts of 100 tokens, and the window" in long and "with stop_at, which our engines" in long
    assert list((tmp_path / "here").iterdir()) == [], "what is refused leaves nothing behind"


@pytest.mark.usefixtures("ray_session")
@pytest.mark.timeout(120)
def test_an_evaluation_that_fails_is_told_and_ends_nothing(tmp_path):
    """Scripted weights have no tokenizer."""
    write_tasks(tmp_path / "tasks")
    evaluate = {"every": 1, "tasks": [str(tmp_path / "tasks")]}
    config = scripted_config(str(tmp_path / "run"), evaluate=evaluate, stop={"rounds": 2})
    summary = fuse(config, parts=scripted_parts())
    lines = list(map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()))
    notices = [
        line for line in lines if line.get("kind") == "evaluation_failed" or "evaluation_failed" in line.values()
    ]
    assert len(notices) >= 2 and summary.num_accepted > 0 and summary.evaluated == {}
    assert not any("scores" in line for line in lines)
