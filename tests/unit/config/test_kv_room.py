"""KV cache against sums by hand, by what the layers of a family keep, and what is too small for its window."""

from __future__ import annotations

import pytest

from bohdi_ray.config import VllmModel
from bohdi_ray.placement.memory.estimate import ModelSize, _tokens, size_of
from bohdi_ray.placement.memory.kv_cache import kv_shape
from bohdi_ray.placement.memory.kv_check import kv_findings

PLAIN = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 131072,
    "dtype": "bfloat16",
}
FALCON = {"model_type": "falcon", "num_key_value_heads": None}
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
        # vLLM computes in bfloat16 what is stored in float32.
        ({"torch_dtype": "float32"}, 32 * 8192 * 2 * 8 * 128 * 2),
        ({"torch_dtype": "float16"}, 32 * 8192 * 2 * 8 * 128 * 2),
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
        ({"attn_type_list": [0, 0, 0, 1] * 8}, 8 * 8192 * 2 * 8 * 128 * 2),
        (
            {"linear_attn_config": {"kda_layers": [*range(24)], "full_attn_layers": [*range(24, 32)]}},
            8 * 8192 * 2 * 8 * 256,
        ),
        # EXAONE 4: letters, repeated over the layers.
        ({"sliding_window_pattern": "LLLG", "sliding_window": 4096}, (8 * 8192 + 24 * 4096) * 2 * 8 * 128 * 2),
        # KV heads by other names: Falcon 7B and 40B, StarCoder, ChatGLM, Step.
        (FALCON | {"multi_query": True}, 32 * 8192 * 2 * 1 * 128 * 2),
        (FALCON | {"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 4}, 32 * 8192 * 2 * 4 * 256),
        (FALCON | {"n_head_kv": 4}, 32 * 8192 * 2 * 4 * 128 * 2),
        (FALCON | {"model_type": "gpt_bigcode", "multi_query": True}, 32 * 8192 * 2 * 1 * 128 * 2),
        (FALCON | {"model_type": "chatglm", "multi_query_group_num": 2}, 32 * 8192 * 2 * 2 * 128 * 2),
        (FALCON | {"model_type": "step", "num_attention_groups": 16}, 32 * 8192 * 2 * 16 * 128 * 2),
        # GPT-2's names.
        (
            {"hidden_size": None, "n_embd": 1024, "n_head": 8, "num_attention_heads": None, "n_layer": 2}
            | {"num_hidden_layers": None, "num_key_value_heads": None},
            2 * 8192 * 2 * 8 * 128 * 2,
        ),
        ({"head_dim": 0}, 32 * 8192 * 2 * 8 * 128 * 2),
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
        {"sliding_window_pattern": "LXLG", "sliding_window": 4096},
        {"num_key_value_heads": None, "block_configs": [{"attention": {"n_heads_in_group": 8}}]},
        {"quantization_config": {"kv_cache_scheme": {"num_bits": 8}}},
    ],
)
def test_layers_that_are_not_known_are_not_sure(config):
    shape = kv_shape(PLAIN | config)
    assert shape is not None and not shape.sure


def test_of_layers_that_were_searched_for_those_with_attention_count():
    """Nemotron: two of three layers keep something, with 4 KV heads at least."""
    blocks = [{"attention": one} for one in ({"n_heads_in_group": 8}, {"no_op": True}, {"n_heads_in_group": 4})]
    shape = kv_shape(PLAIN | {"num_key_value_heads": None, "block_configs": blocks, "num_hidden_layers": 3})
    assert shape is not None and (shape.num_full, shape.num_heads) == (2, 4)


@pytest.mark.parametrize(
    "config",
    [
        {"num_key_value_heads": [8, 8]},
        {"head_dim": [64]},
        {"head_dim": "128"},
        {"hidden_size": 1.5},
        {"num_hidden_layers": True},
        {"num_hidden_layers": float("inf")},
        {"kv_lora_rank": "x"},
        {"sliding_window": "long", "model_type": "mistral"},
        {"layer_types": 5},
        {"full_attention_interval": "4"},
    ],
)
def test_what_is_no_number_is_an_error_that_names_it(config):
    with pytest.raises(ValueError, match=next(iter(config)).split("_")[0]):
        kv_shape(PLAIN | config)


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


def test_without_weights_that_are_known_nothing_is_refused():
    shrunk = model(max_model_len=131072, extra={"quantization": "fp8"})
    errors, [note] = kv_findings("target", shrunk, SIZE, card_gb=24)
    assert errors == [] and "as far as is known" in note
    assert kv_findings("target", model(extra={"max_model_len": -1}), SIZE, card_gb=24) == ([], [])


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


def test_a_cache_that_no_layer_uses_holds_any_number_of_tokens():
    stateful = size_of(
        PLAIN | {"layer_types": ["linear_attention"] * 32}, num_params=8 * 10**9, stored_bytes=16 * 10**9
    )
    told = model(num_gpus=0, kv_cache_memory_bytes=10**9)
    assert "tokens" not in _tokens(1e9, stateful, told)
    assert kv_findings("sources.0", told, stateful, None) == ([], [])
