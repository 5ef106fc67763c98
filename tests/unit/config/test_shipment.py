"""What `bohdi submit` takes along, what it leaves where it is, and what it refuses before anything is sent."""

from datetime import datetime

import pytest
import yaml

import bohdi_ray
from bohdi_ray.config.loading import load_config
from bohdi_ray.errors import ConfigErrors
from bohdi_ray.submit.job_package import CONFIG_NAME, copy_package, prepare
from bohdi_ray.submit.literal_secrets import literal_secrets

NOW = datetime(2026, 3, 4, 5, 6, 7)
KEY = "sk-" + "a1B2" * 8


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Prepares the shipment of a configuration with these changes; the file's folder is not where the user stands."""
    (tmp_path / "stands").mkdir()
    monkeypatch.chdir(tmp_path / "stands")
    folder = tmp_path / "configs"
    (folder / "prompts").mkdir(parents=True)
    (folder / "prompts" / "question.jinja").write_text("Ask about {{ path[-1] }} in {{ path[0] }}: {{ style }}.")
    (folder / "prompts" / "notes.txt").write_text("not sent")
    (folder / "seeds.yaml").write_text("Science: [Physics]\n")

    def prepared(*overrides, **changes):
        source = {"name": "a", "model": "owner/name"}
        plain = {
            "run_dir": "runs/x-{time}",
            "sources": [source],
            "target": {"name": "t", "model": "/models/t"},
            **changes,
        }
        (folder / "fusion.yaml").write_text(yaml.safe_dump(plain))
        return prepare(folder / "fusion.yaml", overrides, NOW)

    return prepared


def sent(shipment) -> dict:
    return yaml.safe_load(shipment.files[CONFIG_NAME])


def errors_of(function, *arguments, **changes) -> dict[str, str]:
    with pytest.raises(ConfigErrors) as caught:
        function(*arguments, **changes)
    assert all(error.remedy for error in caught.value.errors)
    return {error.field: str(error) for error in caught.value.errors}


def test_paths_of_the_cluster_stay_as_they_are_and_the_run_has_one_name(shipped):
    shipment = shipped("sources.a.model=cache:small", "target.model=~/models/t")
    assert list(shipment.files) == [CONFIG_NAME]
    assert sent(shipment)["run_dir"] == "runs/x-20260304-050607" == shipment.config.run_dir
    assert sent(shipment)["sources"][0]["model"] == "cache:small" and sent(shipment)["target"]["model"] == "~/models/t"
    assert shipped(run_dir="s3://bucket/x").config.run_dir == "s3://bucket/x"


def test_domains_and_prompts_travel_along_and_are_found_where_they_are_unpacked(shipped, tmp_path, monkeypatch):
    shipment = shipped("tree.seed=../configs/seeds.yaml", harvest={"prompts": "./prompts"}, tree={"depth": 2})
    assert set(shipment.files) == {CONFIG_NAME, "seed.yaml", "prompts/question.jinja"}
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    shipment.write(unpacked, with_package=False)
    monkeypatch.chdir(unpacked)
    config = load_config(CONFIG_NAME)
    assert config.tree.seed == str(unpacked / "seed.yaml") and config.harvest.prompts == str(unpacked / "prompts")
    assert (unpacked / "seed.yaml").read_text() == "Science: [Physics]\n"


def test_files_that_only_the_cluster_has_are_told_and_not_sent(shipped):
    shipment = shipped(tree={"seed": "/only/there.yaml"}, harvest={"prompts": "/only/there"})
    assert list(shipment.files) == [CONFIG_NAME]
    assert [note.partition(":")[0] for note in shipment.notes] == ["tree.seed", "harvest.prompts"]


def test_the_code_goes_without_caches_and_with_its_templates(tmp_path):
    copy_package(tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"bohdi_ray/fusion.py", "bohdi_ray/engines/templates/judge.jinja", "bohdi_ray/cli/commands.py"} <= names
    assert not any("__pycache__" in name for name in names)
    init = (tmp_path / "bohdi_ray" / "__init__.py").read_text()
    assert bohdi_ray.__version__ in init


@pytest.mark.parametrize("model", ["./weights", "../weights", "not a name"])
def test_a_model_of_this_machine_is_refused(shipped, model):
    assert list(errors_of(shipped, target={"name": "t", "model": model})) == ["target.model"]


def test_everything_that_is_wrong_is_told_at_once(shipped, tmp_path):
    (tmp_path / "configs" / "prompts" / "question.jinja").write_text("{{ nothing }}")
    (tmp_path / "configs" / "seeds.yaml").write_text("Science: [Physics, physics]\n")
    found = errors_of(
        shipped, harvest={"prompts": "./prompts"}, tree={"seed": "./seeds.yaml"},
        training={"deepspeed": {"optimizer": {}}},
    )  # fmt: skip
    assert set(found) == {"training.deepspeed.optimizer", "tree.seed", "harvest.prompts"}, found


@pytest.mark.parametrize("run_dir", ["../x", "/tmp/ray/session_2026-03-04_05-06-07_1_2/runtime_resources/x"])
def test_a_run_directory_that_would_be_lost_is_refused(shipped, run_dir):
    assert list(errors_of(shipped, run_dir=run_dir)) == ["run_dir"]


@pytest.mark.parametrize("file", ["./rows.jsonl", "rows.jsonl", "../*.parquet"])
def test_a_corpus_of_this_machine_is_refused(shipped, file):
    corpus = {"kind": "corpus", "files": [file, "/data/rows.jsonl", "s3://bucket/rows.jsonl"]}
    found = errors_of(shipped, questions=corpus)
    assert list(found) == ["questions.files"] and "not uploaded" in found["questions.files"]


def test_no_secret_is_sent_or_shown(shipped, tmp_path):
    remote = {"kind": "openai", "name": "a", "model": "m", "base_url": "https://h/v1"}
    shipment = shipped(sources=[{**remote, "api_key": "env:MY_KEY"}])
    assert shipment.notes == ["sources.0.api_key: env:MY_KEY is a variable of the cluster's nodes; not sent"]
    found = errors_of(shipped, sources=[{**remote, "api_key": "plain"}], run_dir="s3://user:plain@bucket/x")
    assert set(found) == {"sources.0.api_key", "run_dir"} and "plain" not in "".join(found.values())
    found = errors_of(shipped, f"sources.a.system_prompt=say {KEY}")
    assert set(found) == {"sources.0.system_prompt"} and KEY not in str(found)
    (tmp_path / "configs" / "prompts" / "question.jinja").write_text(
        f"Ask about {{{{ path[-1] }}}} {{{{ style }}}} {KEY}."
    )
    found = errors_of(shipped, harvest={"prompts": "./prompts"})
    assert set(found) == {"harvest.prompts"} and KEY not in str(found)


def test_settings_that_sound_like_secrets_and_are_none_pass():
    plain = {"max_tokens": 5, "tokenizer": "auto", "api_key": "file:/run/key", "hf_token": True, "decoded_tokens": "9"}
    assert literal_secrets({"extra": plain, "base_url": "https://h/v1?model=a", "words": ["token", "key"]}) == []
    for name in ("api_key", "hf_token", "Authorization", "aws_secret", "db_password", "credentials", "key"):
        (error,) = literal_secrets({"extra": {name: "opensesame"}})
        assert error.field == f"extra.{name}" and "opensesame" not in str(error)
    for text in ("hf_" + "a" * 30, "AKIA" + "A1B2" * 4, "Bearer " + "x" * 20, "http://u:p@h", "-----BEGIN PRIVATE KEY"):
        assert [error.field for error in literal_secrets([text])] == ["0"], text
