"""Folders that are not whole are refused with the tensors that are missing; nothing is drawn at random."""

from __future__ import annotations

import json
import shutil

import pytest
from tiny_families import build_family
from training_support import tiny_config

from bohdi_ray.errors import ConfigError, RunDirError
from bohdi_ray.training.weights.versions import load_trainable, publish_base

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One folder with an LM head of its own in two shards, one that ties it in one file."""
    folder = tmp_path_factory.mktemp("whole")
    return {name: build_family(name, folder / name) for name in ("qwen2.5", "llama-3.2", "phi-3")}


@pytest.fixture
def copy_of(models, tmp_path):
    return lambda name: shutil.copytree(models[name], tmp_path / "model")


def rewrite(folder, change):
    """All tensors of a folder in one file, after `change`."""
    from safetensors.torch import load_file, save_file

    tensors = {}
    for file in sorted(folder.glob("model*.safetensors")):
        tensors |= load_file(file)
        file.unlink()
    (folder / INDEX).unlink(missing_ok=True)
    save_file(change(tensors), folder / FILE, metadata={"format": "pt"})


def change_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refusal(folder, tmp_path) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        publish_base(tiny_config(folder).target, str(tmp_path / "base"))
    assert refused.value.field == "target.model" and refused.value.value == str(folder)
    assert not (tmp_path / "base" / "COMMIT").exists()
    return refused.value


def without(*names):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names}


def test_a_missing_tensor_is_named(copy_of, tmp_path):
    folder = copy_of("qwen2.5")
    rewrite(folder, without("model.layers.1.mlp.up_proj.weight"))
    assert "do not hold model.layers.1.mlp.up_proj.weight" in refusal(folder, tmp_path).rule


def test_a_missing_head_is_named_where_the_model_has_one(copy_of, tmp_path):
    folder = copy_of("qwen2.5")
    rewrite(folder, without("lm_head.weight"))
    assert "lm_head.weight" in refusal(folder, tmp_path).rule


def test_tensors_under_another_prefix_are_missing_ones(copy_of, tmp_path):
    folder = copy_of("llama-3.2")
    rewrite(folder, lambda tensors: {f"base_model.model.{name}": tensor for name, tensor in tensors.items()})
    assert "more tensors, which would be initialised at random" in refusal(folder, tmp_path).rule


def test_tensors_of_another_shape_are_named(copy_of, tmp_path):
    folder = copy_of("llama-3.2")
    change_config(folder, intermediate_size=192)
    rule = refusal(folder, tmp_path).rule
    assert "another shape" in rule and "(stored [256, 128], needed [192, 128])" in rule


def test_tensors_that_the_configuration_has_no_place_for_are_named(copy_of, tmp_path):
    folder = copy_of("llama-3.2")
    change_config(folder, num_hidden_layers=1)
    assert "does not describe model.layers.1" in refusal(folder, tmp_path).rule


@pytest.mark.parametrize("damage", ["absent", "short", "pointer"])
def test_a_shard_that_is_absent_cut_short_or_a_pointer_is_named(copy_of, tmp_path, damage):
    folder = copy_of("qwen2.5")
    shard = folder / "model-00002-of-00002.safetensors"
    if damage == "absent":
        shard.unlink()
    elif damage == "short":
        shard.write_bytes(shard.read_bytes()[:-100])
    else:
        shard.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "model-00002-of-00002.safetensors" in refusal(folder, tmp_path).rule


def test_a_model_that_gives_scores_is_no_target(copy_of, tmp_path):
    folder = copy_of("llama-3.2")
    change_config(folder, architectures=["LlamaForSequenceClassification"])
    assert "gives scores" in refusal(folder, tmp_path).rule


def test_a_configuration_that_transformers_does_not_know_is_no_traceback(copy_of, tmp_path):
    folder = copy_of("llama-3.2")
    change_config(folder, model_type="never_heard_of")
    assert "does not know its model_type 'never_heard_of'" in refusal(folder, tmp_path).rule


def test_a_tokenizer_larger_than_the_embedding_is_refused(copy_of, tmp_path):
    folder = copy_of("llama-3.2")
    rewrite(folder, lambda tensors: {name: t[:400] if "embed" in name else t for name, t in tensors.items()})
    change_config(folder, vocab_size=400)
    assert "are beyond the last of 400 rows" in refusal(folder, tmp_path).rule


def test_tensors_beside_the_model_are_kept_as_they_are(copy_of, tmp_path):
    import torch
    from safetensors.torch import load_file

    from bohdi_ray.training.weights.versions import export_target

    folder = copy_of("llama-3.2")
    beside = {"mtp.layers.0.weight": torch.ones(3, 3), "score.weight": torch.ones(1, 128, dtype=torch.float16)}
    head = {"lm_head.weight": torch.zeros(0)}
    rewrite(
        folder, lambda tensors: {**tensors, **beside, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    )
    publish_base(tiny_config(folder).target, str(tmp_path / "base"))
    export_target(str(tmp_path / "base" / "weights"), str(tmp_path / "base"), str(tmp_path / "target"))
    before, after = load_file(folder / FILE), load_file(tmp_path / "target" / FILE)
    assert set(before) == set(after) >= set(head)
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)


@pytest.mark.parametrize(
    "content",
    [
        b'{"temperature": 0.6, "top_p": 0.9, "eos_token_id": [5]}',
        b'{"do_sample": "sometimes", "cache_implementation": "strange", "eos_token_id": [5], "mine": {"a": []}}',
        b"{broken",
        b"[]",
    ],
)
def test_generation_settings_that_transformers_does_not_save_are_kept(copy_of, tmp_path, content):
    from bohdi_ray.training.weights.versions import export_target

    folder = copy_of("llama-3.2")
    (folder / "generation_config.json").write_bytes(content)
    publish_base(tiny_config(folder).target, str(tmp_path / "base"))
    export_target(str(tmp_path / "base" / "weights"), str(tmp_path / "base"), str(tmp_path / "target"))
    assert (tmp_path / "target" / "generation_config.json").read_bytes() == content
    served = json.loads((tmp_path / "base" / "weights" / "generation_config.json").read_text())
    assert 5 in served["eos_token_id"] if isinstance(served["eos_token_id"], list) else served["eos_token_id"] == 5


def test_the_engine_stops_where_rows_end_though_the_publisher_does_not_name_that_token(copy_of, tmp_path):
    folder = copy_of("phi-3")
    end_of_text = json.loads((folder / "config.json").read_text())["eos_token_id"]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end_of_text}))
    publish_base(tiny_config(folder).target, str(tmp_path / "base"))
    from bohdi_ray.engines.chat.hf_tokenizer import load_tokenizer

    end = load_tokenizer(str(folder)).convert_tokens_to_ids("<|end|>")
    served = json.loads((tmp_path / "base" / "weights" / "generation_config.json").read_text())
    assert served["eos_token_id"] == [end_of_text, end]


def test_a_published_version_that_is_not_whole_does_not_train(copy_of, tmp_path):
    folder, base = copy_of("llama-3.2"), tmp_path / "base"
    publish_base(tiny_config(folder).target, str(base))
    rewrite(base / "weights", without("model.norm.weight"))
    with pytest.raises(RunDirError, match=r"do not hold model\.norm\.weight"):
        load_trainable(str(base / "weights"), str(base), dtype="auto")


def test_a_hub_repository_is_published_from_what_transformers_would_load(models, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants

    snapshot = tmp_path / "hub" / "models--owner--tiny" / "snapshots" / "abc"
    shutil.copytree(models["llama-3.2"], snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    target = tiny_config(models["llama-3.2"]).target.model_copy(update={"model": "owner/tiny"})
    publish_base(target, str(tmp_path / "base"))
    assert (tmp_path / "base" / "weights" / FILE).exists()
