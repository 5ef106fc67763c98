"""Models that cannot be a target are named by their config.json alone."""

from __future__ import annotations

import re

import pytest

from bohdi_ray.engines.families.targets import as_published, stored_fault, target_error, text_tower_of


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "t5", "is_encoder_decoder": True}, "encoder-decoder"),
        ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, "gives scores"),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForProcessRewardModel"]}, "gives scores"),
        ({"model_type": "llama4", "text_config": {}, "architectures": ["Llama4ForConditionalGeneration"]}, "llama4"),
        ({"model_type": "new_mm", "vision_config": {}}, "cannot be trained by itself"),
        ({"model_type": "llama", "quantization_config": {"quant_method": "gptq"}}, r"quantized \(gptq\)"),
        ({"model_type": "llama", "quantization_config": {}}, "quantized"),
        ({"model_type": "mistral3", "text_config": {}, "quantization_config": {"quant_method": "fp8"}}, "fp8"),
        ({"model_type": "mistral3", "text_config": {"quantization_config": {"quant_method": "fp8"}}}, "fp8"),
        ({"model_type": "llama", "compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"model_type": "internlm2"}, "does not know its model_type 'internlm2'"),
        ({"model_type": "made_up", "auto_map": {"AutoConfig": "x.X"}}, "code that its publisher wrote"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(config, words):
    error = target_error(config, "folder")
    assert error is not None and error.field == "target.model" and error.value == "folder"
    assert error.remedy
    assert re.search(words, str(error))


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
        {"model_type": "llama"},
        {"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}},
        *({"model_type": kind, "text_config": {}} for kind in ("gemma3", "mistral3", "qwen3_5", "gemma4")),
        {"model_type": "qwen2_5_vl", "vision_config": {}},
    ],
)
def test_what_can_be_trained_passes(config):
    assert target_error(config, "folder") is None


def test_a_wrapper_names_the_plain_decoder_it_wraps():
    assert text_tower_of({"model_type": "qwen2_5_vl"}) == "qwen2"
    assert text_tower_of({"model_type": "llama"}) is None


def test_a_targets_engines_get_the_language_model_of_a_wrapper():
    assert as_published({"model_type": "gemma3", "text_config": {}}) == {"model_type": "gemma3_text"}
    plain = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    assert as_published(plain) == plain


def test_weights_tell_where_config_json_does_not():
    assert stored_fault({}, None) is None and "F8_E4M3" in str(stored_fault({}, "F8_E4M3"))
    mxfp4 = {"quantization_config": {"quant_method": "mxfp4"}}
    assert stored_fault(mxfp4, "U8") is None, "it is read as plain numbers"
