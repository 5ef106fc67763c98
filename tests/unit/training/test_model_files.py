"""Files beside the weights: carried over as they are, mended only where another reader would not understand them."""

from __future__ import annotations

import json

import pytest

from bohdi_ray.training.weights.model_files import (
    json_mapping,
    of_tokenizer,
    older_rope,
    small_files,
    with_both_spellings,
    with_common_tokenizer_class,
    with_turn_end,
    write_small_files,
)

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def read_by_transformers_4(config: dict) -> tuple:
    """What transformers 4.57 takes for theta, local theta and scaling: a missing theta is 10000, without a word."""
    return config.get("rope_theta", 10000.0), config.get("rope_local_base_freq", 10000.0), config.get("rope_scaling")


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_type": "default", "rope_theta": 5e5}, (5e5, 10000.0, None)),
        ({"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}, (5e5, 10000.0, {"rope_type": "llama3", **LLAMA3})),
        (
            {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0], "long_factor": [2.0]}
            | {"original_max_position_embeddings": 4096},
            (1e4, 10000.0, {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}),
        ),
        (
            {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}}
            | {"sliding_attention": {"rope_type": "default", "rope_theta": 1e4}},
            (1e6, 1e4, {"rope_type": "linear", "factor": 8.0}),
        ),
        (
            {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
            (1e6, 10000.0, {"rope_type": "default", "mrope_section": [4, 6, 6]}),
        ),
    ],
)
def test_rotary_positions_are_written_in_both_spellings(rope, expected):
    mended = with_both_spellings({"model_type": "m", "rope_parameters": rope, "dtype": "bfloat16"}, rope)
    assert read_by_transformers_4(mended) == expected
    assert mended["rope_parameters"] == rope
    assert mended["dtype"] == mended["torch_dtype"] == "bfloat16"


def test_what_the_user_wrote_stays_as_it_is_written():
    rope = {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}
    old = {"rope_theta": 500000, "rope_scaling": {"type": "llama3", **LLAMA3}, "torch_dtype": "float16", "x": [1]}
    mended = with_both_spellings(old, rope)
    assert {name: mended[name] for name in old} == old
    assert mended["rope_parameters"] == rope and mended["dtype"] == "float16"


def test_a_part_of_the_head_that_turns_is_written_beside_the_scaling():
    older = older_rope({"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25})
    assert older == {"rope_theta": 1e4, "rope_scaling": None, "partial_rotary_factor": 0.25}


@pytest.mark.parametrize(
    "rope",
    [
        {"full_attention": {"rope_type": "proportional", "rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}},
        {"chunked": {"rope_theta": 1.0}, "full_attention": {"rope_theta": 2.0}},
    ],
)
def test_kinds_that_transformers_4_does_not_know_are_left_to_the_newer_spelling(rope):
    assert older_rope(rope) == {}


@pytest.mark.parametrize("name", ["TokenizersBackend", "MistralCommonBackend"])
def test_a_tokenizer_class_of_transformers_5_alone_becomes_one_that_both_know(name):
    written = {"tokenizer_class": name, "extra_special_tokens": ["<a>"], "model_max_length": 9}
    files = {"tokenizer_config.json": json.dumps(written).encode(), "tokenizer.json": b"{}", "LICENSE": b"terms"}
    mended = with_common_tokenizer_class(files)
    assert json_mapping(mended["tokenizer_config.json"]) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 9,
        "additional_special_tokens": ["<a>"],
    }
    assert mended["LICENSE"] == b"terms"


@pytest.mark.parametrize("content", [b'{"tokenizer_class": "LlamaTokenizer" }', b"{broken", b"[1]"])
def test_other_tokenizer_files_stay_byte_for_byte(content):
    files = {"tokenizer_config.json": content}
    assert with_common_tokenizer_class(files) == files


@pytest.mark.parametrize(
    "content",
    [
        b'{"temperature": 0.6, "top_p": 0.9, "eos_token_id": [1, 7]}',  # transformers 5 refuses to save it
        b'{ "eos_token_id":7,\n"my_own_key": {"a": 1} }',
        b"{broken",
        b"[1, 2]",
    ],
)
def test_generation_settings_stay_byte_for_byte_where_they_name_the_end_or_cannot_be_read(content):
    assert with_turn_end(content, 7, {}) == content


def test_generation_settings_get_the_token_that_rows_end_with_and_lose_nothing():
    mended = json_mapping(with_turn_end(b'{"temperature": 0.6, "eos_token_id": 2}', 7, {"eos_token_id": 9}))
    assert mended == {"temperature": 0.6, "eos_token_id": [2, 7]}
    assert json_mapping(with_turn_end(b'{"top_k": 3}', 7, {})) == {"top_k": 3, "eos_token_id": 7}
    assert with_turn_end(b'{"top_k": 3}', 7, {"eos_token_id": 7}) == b'{"top_k": 3}'
    made = with_turn_end(None, 7, {"eos_token_id": [5], "bos_token_id": 1})
    assert json_mapping(made) == {"bos_token_id": 1, "eos_token_id": [5, 7]}


def test_every_file_but_weights_is_carried_over(tmp_path):
    kept = {
        **{"config.json": b"{}", "LICENSE": b"terms", "preprocessor_config.json": b"{}", "tokenizer.json": b"{}"},
        **{"README.md": b"card", "additional_chat_templates/tool.jinja": b"t", "tekken.json": b"{}"},
    }
    left = (
        *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "consolidated.00.pth"),
        *("consolidated.safetensors", "params.json", ".gitattributes", "model.gguf"),
    )
    write_small_files(kept | dict.fromkeys(left, b"x"), str(tmp_path))
    (tmp_path / "onnx").mkdir()
    assert small_files(str(tmp_path)) == kept
    assert set(of_tokenizer(kept)) == {"tokenizer.json", "additional_chat_templates/tool.jinja"}
