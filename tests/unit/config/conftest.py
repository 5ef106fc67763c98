"""Model folders made of headers alone: enough for everything that does not load weights."""

import json
from pathlib import Path

import pytest
from model_folders import CHAT_TEMPLATE, SHAPES, tensors_of, write_safetensors

from bohdi_ray.placement import on_cpu
from bohdi_ray.placement.memory.model_tensors import LAYER_TENSORS


@pytest.fixture
def make_model(tmp_path):
    """Makes a model folder; `without` names what to leave out, `config` changes config.json."""

    def make(name: str = "model", without: tuple[str, ...] = (), config: dict | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        plain = {
            "hidden_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_hidden_layers": 3,
            "max_position_embeddings": 2048,
            **(config or {}),
        }
        if "config.json" not in without:
            (folder / "config.json").write_text(json.dumps(plain))
        if "weights" not in without:
            known = plain.get("model_type") in LAYER_TENSORS
            whole = tensors_of(plain["model_type"], plain["num_hidden_layers"]) if known else []
            with_rows = ("embed_tokens.weight", "lm_head.weight")
            shapes = {name: [plain.get("vocab_size", 8) if name.endswith(with_rows) else 8, 8] for name in whole}
            write_safetensors(folder / "model.safetensors", shapes or SHAPES)
        if "tokenizer" not in without:
            (folder / "tokenizer.json").write_text("{}")
        if "chat_template" not in without:
            (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
        return folder

    return make


@pytest.fixture(autouse=True)
def any_cpu(monkeypatch):
    """Sums of memory are the same on every machine that tests run on."""
    monkeypatch.setattr(on_cpu, "computes_bfloat16", lambda: True)
