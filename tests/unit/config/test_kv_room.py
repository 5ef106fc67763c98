"""KV cache against sums by hand, by what the layers of a family keep, and what is too small for its window."""

from __future__ import annotations

import pytest

from bohdi_ray.config import VllmModel
from bohdi_ray.layout.kv_check import kv_findings
from bohdi_ray.layout.kv_room import kv_shape
from bohdi_ray.layout.memory import ModelSize, size_of

PLAIN = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 131072,
    "dtype": "bfloat16",
}
BLOCKS = {"num_hidden_layers": 24, "layer_types": ["sliding_attention", "full_attention"] * 12, "sliding_window": 128}


def model(num_gpus: float | None = 1, dtype: str = "auto", **engine) -> VllmModel:
    split = engine.get("tensor_parallel_size", 1) * engine.get("pipeline_parallel_size", 1)
    resources = {"num_gpus": split if num_gpus else 0}
    fields = {"name": "m", "model": "org/m", "engine": engine, "resources": resources, "dtype": dtype}
    return VllmModel.model_validate(fields)


def needed(tokens: int = 8192, num_gpus: float = 1, dtype: str = "auto", engine=None, **config) -> float:
    shape = kv_shape(PLAIN | config)
    assert shape is not None and shape.sure
    return shape.needed_bytes(tokens, model(num_gpus, dtype, **(engine or {})))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, 32 * 8192 * 2 * 8 * 128 * 2),
        ({"dtype": "float32"}, 32 * 8192 * 2 * 8 * 128 * 4),
        ({"head_dim": 256}, 32 * 8192 * 2 * 8 * 256 * 2),
        ({"num_key_value_heads": None}, 32 * 8192 * 2 * 32 * 128 * 2),
        # Mistral 0.1: all layers; later ones: none. Qwen 2.5 has a window and does not use it.
        ({"model_type": "mistral", "sliding_window": 4096}, 32 * 4096 * 2 * 8 * 128 * 2),
        ({"model_type": "mistral", "sliding_window": None}, 32 * 8192 * 2 * 8 * 128 * 2),
        ({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False}, 32 * 8192 * 2 * 8 * 128 * 2),
        # Gemma 2: every other layer; Gemma 3: five of six; gpt-oss and new files: as listed.
        ({"model_type": "gemma2", "sliding_window": 4096}, 16 * (8192 + 4096) * 2 * 8 * 128 * 2),
        (
            {"model_type": "gemma3_text", "sliding_window": 512, "num_hidden_layers": 36},
            (6 * 8192 + 30 * 512) * 2 * 8 * 128 * 2,
        ),
        (BLOCKS, 12 * (8192 + 128) * 2 * 8 * 128 * 2),
        # DeepSeek: one latent vector a layer.
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64}, 32 * 8192 * 576 * 2),
        # Qwen 3.5: one layer of four; Nemotron-H: the stars; Granite 4: by name.
        ({"layer_types": ["linear_attention"] * 24 + ["full_attention"] * 8}, 8 * 8192 * 2 * 8 * 128 * 2),
        ({"full_attention_interval": 4, "linear_num_value_heads": 16}, 8 * 8192 * 2 * 8 * 128 * 2),
        ({"hybrid_override_pattern": "M-M*-" * 4}, 4 * 8192 * 2 * 8 * 128 * 2),
        ({"layers_block_type": ["mamba"] * 28 + ["attention"] * 4}, 4 * 8192 * 2 * 8 * 128 * 2),
    ],
)
def test_a_window_takes_what_its_layers_keep(config, expected):
    assert needed(**config) == expected


def test_the_cache_is_split_and_stored_as_the_engine_is_told():
    whole = needed()
    assert needed(engine={"tensor_parallel_size": 4}) == whole / 4
    assert needed(engine={"tensor_parallel_size": 16}) == whole / 8  # one head at least
    assert needed(engine={"pipeline_parallel_size": 2}) == whole / 2
    assert needed(engine={"tensor_parallel_size": 4}, num_gpus=0) == whole
    assert needed(engine={"extra": {"kv_cache_dtype": "fp8"}}) == whole / 2
    assert needed(dtype="float32") == whole * 2
    latent = {"kv_lora_rank": 512, "qk_rope_head_dim": 64}
    assert needed(engine={"tensor_parallel_size": 8}, **latent) == needed(**latent)


@pytest.mark.parametrize(
    "config",
    [
        {"sliding_window": 4096, "model_type": "unheard_of"},
        {"layer_types": ["full_attention"] * 31 + ["unheard_of"]},
        {"mamba_d_state": 16},
        {"num_kv_shared_layers": 10},
        {"quantization_config": {"kv_cache_scheme": {"num_bits": 8}}},
    ],
)
def test_layers_that_are_not_known_are_not_sure(config):
    shape = kv_shape(PLAIN | config)
    assert shape is not None and not shape.sure


@pytest.mark.parametrize("config", [{}, BLOCKS, {"model_type": "gemma2", "sliding_window": 4096}])
@pytest.mark.parametrize("room", [10**7, 10**9, 10**10])
def test_the_longest_window_that_fits_fits(config, room):
    shape = kv_shape(PLAIN | config)
    assert shape is not None
    most = shape.most_tokens(room, model())
    assert shape.needed_bytes(most, model()) <= room < shape.needed_bytes(most + 32, model())


SIZE: ModelSize = size_of(PLAIN, num_params=8 * 10**9, stored_bytes=16 * 10**9)


def test_a_card_without_room_for_one_window_is_refused_with_the_numbers_that_fit():
    """24 GB at 0.9 are 21.6; 16 for weights leave 5.6, and 131,072 tokens take 17.2."""
    errors, notes = kv_findings("target", model(), SIZE, card_gb=24)
    assert notes == []
    [error] = errors
    assert error.field == "target.engine.max_model_len" and "131072 tokens needs 17.2 GB" in error.rule
    assert "the model's own window" in error.rule
    longest = int(5.6e9 / (32 * 2 * 8 * 128 * 2)) // 16 * 16
    assert f"max_model_len to {longest}" in error.remedy and "gpu_memory_utilization to" not in error.remedy
    fits = model(max_model_len=longest - 12000)
    assert kv_findings("target", fits, SIZE, card_gb=24) == ([], [])


def test_what_hangs_on_the_estimated_overhead_is_a_note():
    errors, [note] = kv_findings("target", model(max_model_len=40000), SIZE, card_gb=24)
    assert errors == [] and "may refuse to start" in note and "Lower engine.max_model_len to" in note


def test_a_cache_of_a_given_size_is_compared_wherever_it_runs():
    small = model(num_gpus=0, kv_cache_memory_bytes=10**9, max_model_len=16384)
    [error], _ = kv_findings("sources.0", small, SIZE, card_gb=None)
    assert "kv_cache_memory_bytes to 219" in error.remedy and "max_model_len to 7616" in error.remedy
    assert kv_findings("sources.0", model(num_gpus=0, max_model_len=16384), SIZE, None) == ([], [])


def test_more_of_the_card_is_offered_where_that_is_enough():
    [error], _ = kv_findings("target", model(max_model_len=40000, gpu_memory_utilization=0.7), SIZE, card_gb=24)
    assert "gpu_memory_utilization to 0.95" in error.remedy
