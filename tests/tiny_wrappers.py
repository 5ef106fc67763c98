"""Wrappers of a language model that tests/tiny_families.py does not have, tiny, with random weights, built offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_models import FAMILIES, build_tokenizer

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.12,
}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
QWEN_VISION = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 64}
MROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 5e5}}
# By model_type: configuration class, tokenizer's family, the language model's fields, the other parts', the whole's.
WRAPPERS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "qwen3_vl": (
        "Qwen3VLConfig",
        "qwen2",
        MROPE,
        {"vision_config": QWEN_VISION | {"deepstack_visual_indexes": [0]}},
        {"tie_word_embeddings": True},
    ),
    "llava": (
        "LlavaConfig",
        "llama",
        {"model_type": "llama"},
        {"vision_config": VISION | {"model_type": "clip_vision_model", "projection_dim": 16}}
        | {"vision_feature_layer": -1},
        {"tie_word_embeddings": False},
    ),
}
PREPROCESSOR = {"image_processor_type": "TinyImageProcessor", "size": {"height": 28, "width": 28}}


def build_wrapper(model_type: str, folder: Path, seed: int = 0) -> Path:
    """Write one checkpoint in bfloat16 as transformers lays it out, with a processor's files beside."""
    import torch
    import transformers

    kind, tokenizer_family, text, parts, whole = WRAPPERS[model_type]
    tokenizer = build_tokenizer(FAMILIES[tokenizer_family])
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    vocab = {"vocab_size": len(tokenizer)}
    config = getattr(transformers, kind)(text_config=TEXT | text | vocab | ids, **parts, **whole)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "TinyProcessor"}))
    (folder / "LICENSE").write_text("Terms of a tiny model.\n")
    return folder
