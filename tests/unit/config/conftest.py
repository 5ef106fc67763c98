"""Model folders made of headers alone: enough for everything that does not load weights."""

import json
from pathlib import Path

import pytest
from model_folders import CHAT_TEMPLATE, SHAPES, write_safetensors


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
            write_safetensors(folder / "model.safetensors", SHAPES)
        if "tokenizer" not in without:
            (folder / "tokenizer.json").write_text("{}")
        if "chat_template" not in without:
            (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
        return folder

    return make
