"""`bohdi plan --online`: every check of a folder, by what a model hub says; weights are never asked for."""

import json
import socket

import pytest
import yaml
from click.testing import CliRunner
from hub_server import COMMIT, loopback_hub
from model_folders import CHAT_TEMPLATE, SHAPES, write_safetensors
from tiny_families import write_mistral_tokenizer

from bohdi_ray.cli import main
from bohdi_ray.config.loading import parse_config
from bohdi_ray.placement.memory.estimate import model_size
from bohdi_ray.placement.memory.weight_files import INDEX
from bohdi_ray.preflight import preflight
from bohdi_ray.preflight.folder_files import PARSED_FILES
from bohdi_ray.preflight.hub import asked_hub

SMALL = {"answer": {"max_tokens": 256}}


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """The environment's value stays as it was when the library was imported, perhaps by a test that sets it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(monkeypatch):
    with loopback_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def findings_of(source="org/s", target="org/t", tmp_path="x", **changes):
    source = {"name": "s", "sampling": SMALL, "model": source, **changes}
    target = {"name": "t", "sampling": SMALL, "model": target}
    config = parse_config({"run_dir": f"{tmp_path}/run", "sources": [source], "target": target})
    with asked_hub() as asked:
        return preflight(config, None, hub=asked)


def refused(findings):
    return {error.field: str(error) for error in findings.problems}


def test_a_hub_model_is_checked_as_its_folder_would_be_and_no_weights_are_asked_for(hub, make_model, tmp_path):
    folder = make_model()
    large = {f"model.layers.{i}.w": [1000, 1000] for i in range(20)}
    write_safetensors(folder / "model.safetensors", {**SHAPES, **large})
    (folder / "sub").mkdir()
    (folder / "sub" / "model.safetensors").write_bytes(b"x")
    hub.folders = {"org/s": folder, "org/t": folder}
    found = findings_of(tmp_path=tmp_path)
    assert found.problems == [] and found.unchecked == []
    assert found.sizes["s"] == model_size(folder) and found.sizes["t"] == model_size(folder).published()
    assert any(COMMIT in line and "org/s" in line and "pin it" in line for line in found.hub)
    assert 0 < hub.num_bytes < 300_000 < (folder / "model.safetensors").stat().st_size


def test_every_file_that_a_check_parses_is_downloaded(hub, make_model, tmp_path):
    folder = make_model()
    for name in PARSED_FILES:
        if not (folder / name).exists() and name != INDEX:
            (folder / name).write_text("{}" if name.endswith(".json") else CHAT_TEMPLATE)
    weight_map = {"weight_map": dict.fromkeys(SHAPES, "model.safetensors")}
    (folder / INDEX).write_text(json.dumps(weight_map))
    (folder / "tokenizer.model").write_bytes(b"x" * 100)
    hub.folders = {"org/s": folder, "org/t": folder}
    assert refused(findings_of(tmp_path=tmp_path)) == {}


def test_mistrals_tokenizer_is_asked_for_where_it_is_the_only_one(hub, make_model, tmp_path):
    folder = make_model(without=("tokenizer", "chat_template"))
    write_mistral_tokenizer(folder, "tekken_240911.json")
    hub.folders = {"org/s": folder, "org/t": make_model("whole")}
    assert refused(findings_of(tmp_path=tmp_path)) == {}
    (folder / "tokenizer.json").write_text("{}")
    assert "no chat template" in refused(findings_of(tmp_path=tmp_path))["sources.0.model"]


def test_a_server_that_knows_no_ranges_is_left_after_the_head(hub, make_model, tmp_path):
    folder = make_model()
    write_safetensors(folder / "model.safetensors", {"a": [40_000_000]})
    hub.folders, hub.ignores_ranges = {"org/s": folder, "org/t": folder}, True
    assert findings_of(tmp_path=tmp_path).problems == []
    assert hub.num_bytes < 40_000_000, "of 80 MB, what is in buffers until the connection is closed"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "chat_template.jinja").unlink(), "no chat template"),
        (lambda f: (f / "chat_template.jinja").write_text("{{ raise_exception('no') }}"), "loses the question"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
        (lambda f: (f / "model.safetensors").rename(f / "model.bin"), "no *.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "is empty"),
        (lambda f: (f / "model.safetensors").write_bytes(b"not safetensors"), "not a safetensors file"),
        (lambda f: (f / "config.json").write_text("{"), "damaged"),
    ],
)
def test_what_a_folder_is_refused_for_a_hub_model_is_refused_for(hub, make_model, tmp_path, spoil, words):
    folder = make_model()
    spoil(folder)
    hub.folders = {"org/s": folder, "org/t": make_model("whole")}
    found = refused(findings_of(tmp_path=tmp_path))
    assert list(found) == ["sources.0.model"] and words in found["sources.0.model"] and "org/s" in str(found)


def test_a_shard_that_the_hub_does_not_have_and_a_window_too_large_are_refused(hub, make_model, tmp_path):
    folder = make_model()
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.folders = {"org/s": make_model("other"), "org/t": folder}
    found = refused(findings_of(tmp_path=tmp_path, engine={"max_model_len": 9000}))
    assert "model-2.safetensors" in found["target.model"]
    assert "reads 2048 tokens" in found["sources.0.engine.max_model_len"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ((404, "RepoNotFound"), ("no such model", "spelling", "hf auth login")),
        ((401, "RepoNotFound"), ("no such model", "HF_TOKEN")),
        ((403, "GatedRepo"), ("after its terms are accepted", "hf auth login")),
        ((403, ""), ("refuses access", "HF_TOKEN")),
    ],
)
def test_a_model_that_cannot_be_had_is_refused_with_what_to_do(hub, make_model, tmp_path, error, words):
    hub.folders, hub.errors = {"org/t": make_model()}, {"org/s": error}
    found = refused(findings_of(tmp_path=tmp_path))
    assert list(found) == ["sources.0.model"] and all(word in found["sources.0.model"] for word in words), found


def test_a_gated_model_whose_list_may_be_seen_is_refused(hub, make_model, tmp_path):
    hub.folders = {"org/s": make_model(), "org/t": make_model("t")}
    hub.gated = {"org/s"}
    assert "after its terms are accepted" in refused(findings_of(tmp_path=tmp_path))["sources.0.model"]


def test_a_revision_is_looked_at_and_one_that_is_not_there_refused(hub, make_model, tmp_path):
    folder = make_model()
    hub.folders = {"org/s": folder, "org/t": folder}
    found = findings_of(tmp_path=tmp_path, revision=COMMIT)
    assert found.problems == [] and any("org/s" in line and "as pinned" in line for line in found.hub)
    assert any(f"/api/models/org/s/revision/{COMMIT}" in path for path in hub.asked)
    assert "no such revision" in refused(findings_of(tmp_path=tmp_path, revision="v9"))["sources.0.revision"]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_in_trouble_is_told_of_once(hub, tmp_path, status):
    hub.errors = {"org/s": (status, ""), "org/t": (status, "")}
    found = findings_of(tmp_path=tmp_path)
    (error,) = found.problems
    assert error.field == "--online" and str(status) in error.rule and "HF_ENDPOINT" in error.remedy
    assert found.unchecked == ["s", "t"]


@pytest.mark.parametrize("endpoint", ["closed", "nonsense"])
def test_a_hub_that_cannot_be_reached_is_an_error_and_no_traceback(monkeypatch, tmp_path, endpoint):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}" if endpoint == "closed" else endpoint)
    (error,) = findings_of(tmp_path=tmp_path).problems
    assert error.field == "--online" and "cannot be asked" in error.rule


def test_a_server_that_is_no_hub_is_an_error(hub, tmp_path, make_model):
    folder = make_model()
    (folder / "config.json").write_text("[]")
    hub.folders = {"org/s": folder, "org/t": folder}
    found = refused(findings_of(tmp_path=tmp_path))
    assert "damaged" in found["target.model"]


def plan(config, *options):
    return CliRunner().invoke(main, ["plan", str(config), *options], catch_exceptions=False)


@pytest.fixture
def config_file(make_model, tmp_path):
    sources = [{"name": f"s{i}", "model": f"org/s{i}", "sampling": SMALL} for i in range(3)]
    target = {"name": "t", "model": str(make_model()), "sampling": SMALL}
    path = tmp_path / "fusion.yaml"
    path.write_text(yaml.safe_dump({"run_dir": str(tmp_path / "run"), "sources": sources, "target": target}))
    return path


def test_without_online_one_line_says_how_much_was_not_checked_and_the_verdict_is_not_that_all_is_well(config_file):
    done = plan(config_file)
    assert done.exit_code == 0
    lines = [line for line in done.output.splitlines() if "hub id" in line]
    assert len(lines) == 1
    assert "3 of 4 models are hub ids and were not checked: bohdi plan --online asks the hub" in lines[0]
    assert "Nothing is known to be wrong" not in done.output
    assert "3 models were not checked" in done.output.splitlines()[-1]


def test_with_online_the_plan_shows_the_commits_and_the_sizes(config_file, hub, make_model):
    folder = make_model("hub")
    hub.folders = {f"org/s{i}": folder for i in range(3)}
    done = plan(config_file, "--online")
    assert done.exit_code == 0 and f"revision: {COMMIT}" in done.output
    assert "Nothing is known to be wrong." in done.output and "files are not here" not in done.output
    hub.folders.pop("org/s1")
    done = plan(config_file, "--online")
    assert done.exit_code == 2 and "sources.1.model" in done.output and "Refused: see above." in done.output
