"""What the words of `bohdi evaluate` name."""

from __future__ import annotations

import json

import pytest

from bohdi_ray.config.loading import parse_config
from bohdi_ray.errors import ConfigError, ConfigErrors, RunDirError
from bohdi_ray.evaluation.fingerprint import answers_of, fingerprint
from bohdi_ray.evaluation.subjects import resolved, spec_of, subjects_of
from bohdi_ray.run.run_dir import RunDir, checkpoint_dir, weights_dir

CONFIG_JSON = {
    "max_position_embeddings": 2048,
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def write_model(folder, weights=b"weights"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG_JSON))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.fixture
def run(tmp_path):
    """A run with versions 0, 2 and 3; 1 was deleted."""
    model = {"name": "s", "model": str(write_model(tmp_path / "source"))}
    target = {"name": "student", "model": str(tmp_path / "source"), "engine": {"max_model_len": 512}}
    config = parse_config({"run_dir": str(tmp_path / "run"), "sources": [model], "target": target})
    run = RunDir.create(config.run_dir, config, {})
    for version in (0, 2, 3):
        run.place(f"{weights_dir(version)}/config.json").write_bytes(json.dumps(CONFIG_JSON).encode())
        run.place("checkpoints/base" if version == 0 else checkpoint_dir(version - 1)).commit({"round": version})
    return run


def test_a_run_stands_for_its_first_and_its_newest_weights(run):
    subjects = subjects_of([run.location], [])
    assert [(s.name, s.version) for s in subjects] == [("student@0", 0), ("student@3", 3)]
    assert all(s.weights_dir == run.address(weights_dir(s.version)) and spec_of(s).proves for s in subjects)
    assert subjects[0].same_engines(subjects[1])


def test_a_version_is_named_by_number_or_by_what_it_is(run):
    run.place("progress.json").write_bytes(b'{"best_version": 2, "best_rows": {"s": [1.5, 3]}}')
    names = [f"{run.location}@{version}" for version in ("2", "best", "newest")]
    assert [s.version for s in subjects_of(names, [])] == [2, 3], "best is 2, which is named already"


def test_the_best_version_is_the_one_that_the_run_says(run):
    def best():
        return subjects_of([f"{run.location}@best"], [])[0].version

    with pytest.raises(ConfigError, match="nothing is measured"):
        best()
    run.place("progress.json").write_bytes(b'{"best_version": 2, "best_rows": {"s": [1, 3]}, "evaluated": {"3": 0.4}}')
    assert best() == 2
    evaluate = {"every": 1, "tasks": ["x"], "chooses_best": True}
    config = run.config()
    run.write_config(config.model_copy(update={"evaluate": type(config.evaluate)(**evaluate)}))
    assert best() == 3, "by the scores, as RUN/best will be"
    run.place("summary.json").write_bytes(b'{"best_version": 0}')
    assert best() == 0


def test_runs_are_told_apart_by_their_folders(run, tmp_path):
    import shutil

    shutil.copytree(run.location, tmp_path / "other")
    names = [subject.name for subject in subjects_of([run.location, str(tmp_path / "other")], [])]
    assert names == ["run@0", "run@3", "other@0", "other@3"]


def test_a_version_that_is_not_there_is_refused_with_those_that_are(run):
    with pytest.raises(ConfigError, match=r"no weights of version 1 .* There are 0, 2, 3"):
        subjects_of([f"{run.location}@1"], [])


def test_a_run_that_is_none_and_a_folder_that_is_neither_are_refused(tmp_path):
    with pytest.raises(RunDirError, match="holds no run"):
        subjects_of([f"{tmp_path}/nothing@2"], [])
    with pytest.raises(ConfigError, match=r"neither a run .* nor a model"):
        subjects_of([str(tmp_path)], [])
    with pytest.raises(ConfigError, match="no run, no folder and no hub id"):
        subjects_of(["what is this"], [])


def test_models_of_one_name_are_told_apart(tmp_path):
    one, other = write_model(tmp_path / "a" / "model"), write_model(tmp_path / "b" / "model")
    assert [s.name for s in subjects_of([str(one), str(other)], [])] == ["a/model", "b/model"]


def test_settings_change_every_model(tmp_path, run):
    model = write_model(tmp_path / "m")
    subjects = subjects_of([str(model), f"{run.location}@0"], ["dtype=float32", "engine.max_num_seqs=3"])
    assert {(s.model.dtype, s.model.engine.max_num_seqs) for s in subjects} == {("float32", 3)}
    with pytest.raises(ConfigErrors, match=r"engine\.nonsense"):
        subjects_of([str(model)], ["engine.nonsense=3"])


def test_engines_get_what_the_cluster_has(tmp_path, run):
    model = subjects_of([str(write_model(tmp_path / "m"))], [])[0]
    on_cpu = resolved(model, False, 2, 4.0).model
    assert (on_cpu.resources.num_gpus, on_cpu.resources.num_cpus, on_cpu.engine.max_model_len) == (0, 2.0, 2048)
    assert on_cpu.engine.kv_cache_memory_bytes >= 300_000_000 and on_cpu.engine.enforce_eager
    on_gpus = resolved(model, True, 1, 4.0).model
    assert on_gpus.resources.num_gpus == 1 and on_gpus.engine.kv_cache_memory_bytes is None
    with pytest.raises(ConfigError, match="no GPU"):
        resolved(subjects_of([model.path], ["resources.num_gpus=1"])[0], False, 1, 2.0)
    # A run's own window stays.
    assert resolved(subjects_of([f"{run.location}@0"], [])[0], False, 1, 2.0).model.engine.max_model_len == 512


def test_other_weights_settings_or_versions_have_other_answers(tmp_path, run):
    folder = write_model(tmp_path / "m")

    def now(*settings):
        return fingerprint(resolved(subjects_of([str(folder)], settings)[0], False, 1, 2.0))

    before = now()
    assert now() == before and now("engine.max_num_seqs=2") == before, "how many at once changes no answer"
    others = (now("dtype=float32"), now("engine.max_model_len=64"), now("engine.load_format=dummy"))
    assert len({before, *others}) == 4
    write_model(folder, b"weighted")
    assert now() != before
    versions = [fingerprint(subject) for subject in subjects_of([run.location], [])]
    assert len(set(versions)) == 2


def test_answers_lie_with_the_run_or_in_the_cache(tmp_path, run, monkeypatch):
    monkeypatch.setenv("BOHDI_CACHE", str(tmp_path / "cache"))
    model, version = subjects_of([str(write_model(tmp_path / "m")), f"{run.location}@0"], [])
    assert answers_of(model, "key").path.startswith(str(tmp_path / "cache" / "evaluations" / "answers"))
    assert answers_of(version, "key").path.startswith(f"{run.location}/evaluations/answers")
