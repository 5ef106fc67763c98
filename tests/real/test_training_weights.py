"""Weights folders: published untied, exported in the model's own layout, measured alike by trainer and evaluation."""

from __future__ import annotations

import json
import os

import pytest
from training_support import some_rows, tiny_config

from bohdi_ray.engines.probe import read_probe
from bohdi_ray.evaluation.heldout_loss import heldout_loss, loaded
from bohdi_ray.training.weights.checkpoints import is_committed
from bohdi_ray.training.weights.versions import export_target, publish_base


def tensors(folder: str) -> dict:
    from safetensors.torch import load_file

    return load_file(os.path.join(folder, "model.safetensors"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("llama", False), ("qwen2", True), ("mistral", False)])
def test_version_zero_is_published_untied_and_computes_the_same(tiny_model_dir, tmp_path, family, tied):
    import torch
    from transformers import AutoModelForCausalLM

    source = tiny_model_dir(family, tie_word_embeddings=tied)
    publish_base(tiny_config(source).target, str(tmp_path / "base"))
    published = str(tmp_path / "base" / "weights")
    with open(os.path.join(published, "config.json"), encoding="utf-8") as file:
        assert json.load(file)["tie_word_embeddings"] is False
    assert "lm_head.weight" in tensors(published)
    ids = torch.tensor([[5, 6, 7, 8]])
    own, other = (AutoModelForCausalLM.from_pretrained(f, dtype="float32") for f in (source, published))
    assert torch.equal(own(ids).logits, other(ids).logits)
    assert is_committed(str(tmp_path / "base"))


@pytest.mark.timeout(120)
def test_a_model_without_a_head_of_its_own_is_published_tied(tiny_model_dir, tmp_path):
    publish_base(tiny_config(tiny_model_dir("gemma2", tie_word_embeddings=True)).target, str(tmp_path / "base"))
    assert "lm_head.weight" not in tensors(str(tmp_path / "base" / "weights"))


@pytest.mark.timeout(120)
def test_publishing_again_changes_nothing(tiny_model_dir, tmp_path):
    target = tiny_config(tiny_model_dir("llama", tie_word_embeddings=True)).target
    publish_base(target, str(tmp_path / "base"))
    before = os.stat(tmp_path / "base" / "weights" / "model.safetensors").st_mtime_ns
    publish_base(target, str(tmp_path / "base"))
    assert os.stat(tmp_path / "base" / "weights" / "model.safetensors").st_mtime_ns == before


@pytest.mark.timeout(120)
@pytest.mark.parametrize("tied", [True, False])
def test_the_exported_target_has_the_models_own_layout(tiny_model_dir, tmp_path, tied):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = tiny_model_dir("llama", tie_word_embeddings=tied)
    base, out = str(tmp_path / "base"), str(tmp_path / "target")
    publish_base(tiny_config(source).target, base)
    export_target(os.path.join(base, "weights"), base, out)
    export_target(os.path.join(base, "weights"), base, out)  # replaces
    assert ("lm_head.weight" in tensors(out)) is not tied
    own, exported = (AutoModelForCausalLM.from_pretrained(f) for f in (source, out))
    assert exported.config.tie_word_embeddings is tied and exported.dtype == own.dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), exported.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(out).chat_template == AutoTokenizer.from_pretrained(source).chat_template
    assert not os.path.exists(out + ".writing")


@pytest.mark.timeout(120)
def test_the_probe_of_version_zero_is_the_models_own_log_probabilities(tiny_model_dir, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    source = tiny_model_dir("llama", tie_word_embeddings=True)
    publish_base(tiny_config(source).target, str(tmp_path / "base"))
    probe = read_probe(tmp_path / "base" / "probe.json")
    model = AutoModelForCausalLM.from_pretrained(source)
    ids = torch.tensor([probe.token_ids[0]])
    with torch.no_grad():
        logprobs = model(ids).logits[0, :-1].float().log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    assert list(probe.logprobs[0]) == pytest.approx(logprobs.tolist(), abs=1e-3)


@pytest.mark.timeout(120)
def test_the_heldout_loss_is_token_weighted_and_counts_what_it_cannot_measure(tiny_model_dir, tmp_path):
    source = tiny_model_dir("llama", tie_word_embeddings=True)
    config = tiny_config(source)
    publish_base(config.target, str(tmp_path / "base"))
    rows = some_rows(0, 6)
    version = loaded(str(tmp_path / "base" / "weights"), config)
    measured = heldout_loss(version, rows, config)
    sums, counts = zip(*measured.rows.values(), strict=True)
    assert measured.loss == pytest.approx(sum(sums) / sum(counts)) and measured.num_tokens == sum(counts)
    shortened = tiny_config(source, max_length=16)
    nothing = heldout_loss(version, rows, shortened)
    assert (nothing.loss, nothing.num_rejected) == (None, 6)
