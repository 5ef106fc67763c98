"""Tiny checkpoints of models that wrap a language model in other modalities, with random weights, built offline."""

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
    "gemma3": (
        "Gemma3Config",
        "gemma2",
        {"sliding_window": 32, "query_pre_attn_scalar": 16, "layer_types": ["sliding_attention", "full_attention"]},
        {"vision_config": VISION | {"image_size": 28, "patch_size": 14}},
        {"mm_tokens_per_image": 4},
    ),
    "gemma4": (
        "Gemma4Config",
        "gemma2",
        {"layer_types": ["sliding_attention", "full_attention"], "hidden_size_per_layer_input": 8}
        | {"global_head_dim": 16, "num_kv_shared_layers": 0},
        {"vision_config": VISION | {"num_key_value_heads": 2, "head_dim": 16}, "audio_config": None},
        {},
    ),
    "mistral3": (
        "Mistral3Config",
        "mistral",
        {"model_type": "mistral"},
        {"vision_config": VISION | {"model_type": "pixtral", "head_dim": 16, "image_size": 28, "patch_size": 14}},
        {"tie_word_embeddings": False},
    ),
    "qwen2_5_vl": (
        "Qwen2_5_VLConfig",
        "qwen2",
        MROPE,
        {"vision_config": QWEN_VISION | {"patch_size": 14}},
        {"tie_word_embeddings": False},
    ),
    "qwen3_vl": (
        "Qwen3VLConfig",
        "qwen2",
        MROPE,
        {"vision_config": QWEN_VISION | {"deepstack_visual_indexes": [0]}},
        {"tie_word_embeddings": True},
    ),
    "qwen3_5": (
        "Qwen3_5Config",
        "qwen2",
        {"layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 16}
        | {"linear_value_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4},
        {"vision_config": QWEN_VISION},
        {"tie_word_embeddings": False},
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
    if model_type == "gemma4":
        vocab["vocab_size_per_layer_input"] = len(tokenizer)
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
