"""What is refused before anything starts, and what is said not to have been checked."""

import json

import pytest
from model_folders import SHAPES, write_safetensors

from bohdi_ray.config.loading import parse_config
from bohdi_ray.errors import ConfigErrors
from bohdi_ray.placement.capacity import Node
from bohdi_ray.preflight import local_node, preflight

CPU_NODE = [Node("here", num_cpus=64, memory_gb=64)]


def config_of(source, target=None, run_dir="runs/x", **sections):
    target = {"name": "t", **({"model": str(source)} if target is None else target)}
    source = source if isinstance(source, dict) else {"model": str(source)}
    small = {"answer": {"max_tokens": 256}}
    plain = {"run_dir": str(run_dir), "sources": [{"name": "s", "sampling": small, **source}]}
    return parse_config({**plain, "target": {"sampling": small, **target}, **sections})


def problems(config, nodes=CPU_NODE) -> dict[str, str]:
    return {error.field: str(error) for error in preflight(config, nodes).problems}


def test_whole_model_folders_on_a_machine_that_suffices_are_accepted(make_model, tmp_path):
    findings = preflight(config_of(make_model(), run_dir=tmp_path / "run"), CPU_NODE)
    assert findings.problems == [] and findings.notes == []
    assert findings.sizes["t"] is not None
    assert not (tmp_path / "run").exists()
    preflight(config_of(make_model("other"), run_dir=tmp_path / "run"), CPU_NODE).raise_if_wrong()


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("config.json", "no config.json"),
        ("weights", "no *.safetensors"),
        ("tokenizer", "no tokenizer"),
        ("chat_template", "no chat template"),
    ],
)
def test_a_model_folder_that_lacks_a_part_is_refused(make_model, missing, words):
    found = problems(config_of(make_model(without=(missing,)), target={"model": "org/t"}))
    assert words in found["sources.0.model"]


def test_pickled_weights_are_refused(make_model):
    folder = make_model(without=("weights",))
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "can run code" in problems(config_of(folder))["target.model"]


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    assert "no such folder" in problems(config_of(tmp_path / "nowhere"))["sources.0.model"]


def test_a_model_that_should_be_in_the_cache_names_the_command_that_makes_it(tmp_path, monkeypatch):
    monkeypatch.setenv("BOHDI_CACHE", str(tmp_path))
    assert "bohdi prepare-quickstart" in problems(config_of(tmp_path / "quickstart" / "m"))["target.model"]


def test_a_damaged_weights_file_is_refused(make_model):
    folder = make_model()
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    assert "damaged" in problems(config_of(folder))["target.model"]


@pytest.mark.parametrize("model", ["a/b/c", "folder/", "has space/x"])
def test_what_is_neither_folder_nor_hub_id_is_refused(model):
    assert "no folder and no hub id" in problems(config_of({"model": model}, {"model": "org/t"}))["sources.0.model"]


def test_a_hub_id_is_said_not_to_have_been_checked(make_model):
    findings = preflight(config_of({"model": "org/name"}, {"model": str(make_model())}), CPU_NODE)
    assert findings.problems == []
    assert any("the hub was not asked" in note and "no revision is pinned" in note for note in findings.notes)


def test_a_remote_server_is_said_not_to_have_been_asked(make_model):
    remote = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    findings = preflight(config_of(remote, {"model": str(make_model())}), CPU_NODE)
    assert findings.problems == [] and any("was not asked" in note for note in findings.notes)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_key_that_cannot_be_read_here_is_refused_on_this_machine_and_noted_elsewhere(make_model, tmp_path, content):
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    reference = f"file:{tmp_path / 'key'}"
    remote = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key": reference}
    config = config_of(remote, {"model": str(make_model())})
    assert reference in problems(config, [local_node(config)])["sources.0.api_key"]
    for nodes in (CPU_NODE, None):
        findings = preflight(config, nodes)
        assert findings.problems == [] and any(f"{reference} gives no key here" in note for note in findings.notes)


def test_a_key_that_is_there_is_accepted_and_never_shown(make_model, monkeypatch):
    remote = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key": "env:BOHDI_TEST_KEY"}
    config = config_of(remote, {"model": str(make_model())})
    assert "env:BOHDI_TEST_KEY" in problems(config, [local_node(config)])["sources.0.api_key"]
    monkeypatch.setenv("BOHDI_TEST_KEY", "sk-verysecret")
    findings = preflight(config, [local_node(config)])
    assert findings.problems == [] and "verysecret" not in str(findings.notes)


def test_a_proxy_that_cannot_be_used_is_refused_on_this_machine_and_noted_elsewhere(make_model, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "ftp://proxy:21")
    remote = {"kind": "openai", "model": "m", "base_url": "http://far.example/v1"}
    config = config_of(remote, {"model": str(make_model())})
    assert "SCHEME://HOST:PORT" in problems(config, [local_node(config)])["HTTP_PROXY"]
    findings = preflight(config, CPU_NODE)
    assert findings.problems == [] and any("HTTP_PROXY" in note for note in findings.notes)


def test_without_nodes_the_placement_is_said_not_to_have_been_checked(make_model):
    assert any("placement" in note for note in preflight(config_of(make_model()), None).notes)


def test_a_window_larger_than_the_models_is_refused(make_model):
    source = {"model": str(make_model()), "engine": {"max_model_len": 4096}}
    found = problems(config_of(source, {"model": "org/t"}))
    assert "reads 2048 tokens" in found["sources.0.engine.max_model_len"]


@pytest.mark.parametrize("role", ["sprout", "question", "answer", "judge"])
def test_an_answer_as_long_as_the_window_is_refused(make_model, role):
    source = {"model": str(make_model()), "engine": {"max_model_len": 512}, "sampling": {role: {"max_tokens": 512}}}
    sampling = {"question": {"max_tokens": 64}, "answer": {"max_tokens": 64}}
    source["sampling"] = {**sampling, **source["sampling"]}
    assert f"sources.0.sampling.{role}.max_tokens" in problems(config_of(source, {"model": "org/t"}))


def test_a_judge_that_may_not_be_able_to_read_all_answers_is_noted(make_model):
    source = {"model": str(make_model()), "sampling": {"answer": {"max_tokens": 1024}}}
    target = {"model": "org/t", "sampling": {"answer": {"max_tokens": 1024}}}
    assert any("it cannot judge them" in note for note in preflight(config_of(source, target), CPU_NODE).notes)


@pytest.mark.parametrize("key", ["seed", "prompts"])
def test_files_that_are_not_there_are_refused(make_model, tmp_path, key):
    section = "tree" if key == "seed" else "harvest"
    found = problems(config_of(make_model(), **{section: {key: str(tmp_path / "none")}}))
    assert any(field.startswith(f"{section}.{key}") for field in found)


def test_starting_domains_follow_the_rule_on_names(make_model, tmp_path):
    seed = tmp_path / "seed.yaml"
    seed.write_text("- Physics\n- '1234'\n")
    assert any(field.startswith("tree.seed") for field in problems(config_of(make_model(), tree={"seed": str(seed)})))
    seed.write_text("- Physics\n- Biology\n")
    assert problems(config_of(make_model("other"), tree={"seed": str(seed)})) == {}


def test_deepspeed_keys_that_are_filled_in_are_refused(make_model):
    training = {"deepspeed": {"zero_optimization": {"stage": 2}, "train_batch_size": 4}}
    assert "training.deepspeed.train_batch_size" in problems(config_of(make_model(), training=training))


def test_a_run_directory_that_cannot_be_used_is_refused(make_model, tmp_path):
    folder = make_model()
    (tmp_path / "file").write_text("")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.yaml").write_text("")
    (tmp_path / "sealed").mkdir()
    (tmp_path / "sealed").chmod(0o555)
    for run_dir, words in [
        ("file/run", "is a file"),
        ("old", "already holds a run"),
        ("sealed/run", "read-only"),
        ("sealed/deep/run-{time}", "read-only"),
        ("sealed", "read-only"),
    ]:
        assert words in problems(config_of(folder, run_dir=tmp_path / run_dir))["run_dir"]
    assert "run_dir" not in problems(config_of(folder, run_dir=tmp_path / "new" / "run-{time}"))


@pytest.mark.parametrize("address", ["s3://bucket/run-{time}?region=eu-west-1", "s3://bucket/run", "gs://bucket/run"])
def test_an_object_store_may_hold_a_run_and_is_not_asked(make_model, address):
    assert "run_dir" not in problems(config_of(make_model(), run_dir=address))


def test_an_address_of_files_here_is_looked_at_and_an_unknown_kind_of_address_refused(make_model, tmp_path):
    (tmp_path / "config.yaml").write_text("")
    model = make_model()
    assert "already holds a run" in problems(config_of(model, run_dir=f"file://{tmp_path}"))["run_dir"]
    found = problems(config_of(model, run_dir="ftp://somewhere/run"))["run_dir"]
    assert "no filesystem is known" in found and "s3://" in found


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIA123:hunter2@bucket/run",
        "s3://AKIA123:hun%2Fter2@bucket/run",
        "s3://AKIA123:hunter2/x@bucket/run",
        "s3://hunter2@bucket/run",
        "abfs://container@account.dfs.core.windows.net/run?sas_token=hunter2",
        "s3://bucket/run?endpoint_override=http://user:hunter2@127.0.0.1:9000",
    ],
)
def test_an_address_with_a_secret_is_refused_and_the_secret_not_shown(make_model, address):
    with pytest.raises(ConfigErrors, match=r"run_dir.*credentials come from the environment") as caught:
        config_of(make_model(), run_dir=address)
    assert "hunter2" not in str(caught.value) and "ter2" not in str(caught.value)


def test_more_gpus_than_there_are_is_refused(make_model):
    source = {"model": str(make_model()), "resources": {"num_gpus": 1}}
    found = problems(config_of(source, {"model": "org/t"}))
    assert "needs 1 GPU" in found["sources.0.resources"]


def test_weights_larger_than_the_card_are_refused(make_model):
    folder = make_model(without=("weights",))
    header = {"w": {"dtype": "BF16", "shape": [30_000_000_000], "data_offsets": [0, 60_000_000_000]}}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 60_000_000_000)  # a hole, which takes no room
    nodes = [Node("a", 64, 8, 500, "A100-40G")]
    found = problems(config_of({"model": str(folder)}, {"model": "org/t"}), nodes)
    assert "60.0 GB on each GPU" in found["sources.0.engine.tensor_parallel_size"]
    assert (
        problems(config_of({"model": str(folder), "engine": {"tensor_parallel_size": 2}}, {"model": "org/t"}), nodes)
        == {}
    )


def test_everything_wrong_is_raised_at_once(make_model, tmp_path):
    folder = make_model(without=("chat_template",))
    write_safetensors(folder / "more.safetensors", SHAPES)
    with pytest.raises(ConfigErrors) as caught:
        preflight(config_of({"model": str(tmp_path / "none")}, {"model": str(folder)}), CPU_NODE).raise_if_wrong()
    assert [error.field for error in caught.value.errors] == ["sources.0.model", "target.model"]
    assert all(error.rule and error.remedy for error in caught.value.errors)


def test_on_this_machine_alone_cpus_are_slots_and_never_too_few(make_model):
    config = config_of({"model": str(make_model()), "resources": {"num_cpus": 1000}}, {"model": "org/t"})
    assert "sources.0.resources" not in problems(config, [local_node(config)])
