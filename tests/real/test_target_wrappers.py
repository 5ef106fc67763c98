"""Wrappers in other layouts than tests/tiny_families.py has: the language model is found, trained and written back."""

from __future__ import annotations

import dataclasses
import json

import pytest
import tiny_families
from target_support import encoded_rows, logits_of, published
from tiny_families import build_family
from tiny_wrappers import WRAPPERS, build_wrapper

from bohdi_ray.engines.chat.hf_tokenizer import load_tokenizer
from bohdi_ray.training.weights.versions import export_target, load_trainable


def unchanged(source, tmp_path):
    """Version 0 as a plain decoder and RUN/target of it compute what the wrapper computes, to the last bit."""
    import torch
    from transformers import AutoModelForImageTextToText

    weights = published(source, tmp_path / "base")
    export_target(weights, str(tmp_path / "base"), str(tmp_path / "target"))
    wrapper, exported = (
        AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        for folder in (source, tmp_path / "target")
    )
    tower = load_trainable(weights, str(tmp_path / "base"), dtype=torch.float32).eval()
    ids = list(encoded_rows(weights)[0].ids) * 3
    expected = logits_of(wrapper, ids)
    assert torch.equal(logits_of(exported, ids), expected) and torch.equal(logits_of(tower, ids), expected)
    assert all(
        torch.equal(a, b) for a, b in zip(wrapper.state_dict().values(), exported.state_dict().values(), strict=True)
    )


@pytest.mark.long(45)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("model_type", WRAPPERS)
def test_the_language_model_of_other_wrappers_is_found_by_its_embedding(model_type, tmp_path):
    unchanged(build_wrapper(model_type, tmp_path / "model"), tmp_path)


@pytest.mark.timeout(120)
def test_a_configuration_that_has_the_language_models_fields_at_its_top_is_read(tmp_path):
    # As Qwen 2.5 VL was published, before transformers gave language models a section of their own.
    source = build_family("qwen2.5-vl", tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    text = config.pop("text_config", {})
    text.pop("model_type", None)
    text["rope_scaling"] = {"type": "mrope", "mrope_section": [4, 6, 6]}
    text["rope_theta"] = 1e6
    (source / "config.json").write_text(json.dumps({**text, **config}))
    unchanged(source, tmp_path)


@pytest.mark.long(15)
@pytest.mark.timeout(120)
def test_a_wrapper_whose_only_tokenizer_is_mistrals_is_trained_and_written_back(tmp_path, monkeypatch):
    """Mistral Small 3.2 as it is published: tekken.json, and no tokenizer or template in Hugging Face's layout."""
    family = tiny_families.FAMILIES["mistral-small-3.1"]
    rows = {"vocab_size": 2048}  # as many as the tekken.json has, cut as it is
    shape = dataclasses.replace(family, text_shape={**family.text_shape, **rows})
    monkeypatch.setitem(tiny_families.FAMILIES, "mistral-small-3.2", shape)
    source = build_family("mistral-small-3.2", tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.json"):
        (source / name).unlink(missing_ok=True)
    unchanged(source, tmp_path)
    row = encoded_rows(str(tmp_path / "base" / "weights"))[0]
    text = load_tokenizer(str(tmp_path / "target")).decode(row.ids)
    assert text.endswith("[/INST]It is 0, I think.</s>") and "What is 0 times 0?" in text
    assert (tmp_path / "target" / "tekken.json").is_file()


@pytest.mark.timeout(120)
def test_weights_in_mxfp4_are_trained_and_written_as_bfloat16(tmp_path):
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    source = build_family("gpt-oss", tmp_path / "model")
    tensors = {}
    for file in sorted(source.glob("model*.safetensors")):
        tensors |= load_file(file)
        file.unlink()
    (source / "model.safetensors.index.json").unlink()
    generator = torch.Generator().manual_seed(0)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "experts.down_proj"))]:
        experts, into, out = tensors.pop(name).shape
        shape = (experts, out, into // 32)
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), generator=generator, dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.full(shape, 121, dtype=torch.uint8)  # 2 ** -6
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    left = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": left}
    (source / "config.json").write_text(json.dumps(config))
    weights = published(source, tmp_path / "base")
    export_target(weights, str(tmp_path / "base"), str(tmp_path / "target"))
    assert "quantization_config" not in json.loads((tmp_path / "target" / "config.json").read_text())
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "target", dtype=torch.float32).eval()
    experts = exported.state_dict()["model.layers.0.mlp.experts.gate_up_proj"]
    levels = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0}  # of a 4-bit number
    assert {value * 64 for value in experts.abs().unique().tolist()} == levels
    trainable = load_trainable(weights, str(tmp_path / "base"), dtype=torch.float32).eval()
    ids = list(encoded_rows(weights)[0].ids)
    assert torch.equal(logits_of(exported, ids), logits_of(trainable, ids))
