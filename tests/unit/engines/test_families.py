"""The table of families: found by config.json and template, refused by name where a CPU cannot run them; its page."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bohdi_ray.config import VllmModel
from bohdi_ray.config.loading import parse_config
from bohdi_ray.engines.families import FAMILIES, family_errors, family_of
from bohdi_ray.engines.families.docs import page
from bohdi_ray.engines.families.states import keeps_states
from bohdi_ray.engines.families.targets import as_published
from bohdi_ray.engines.spec import EngineSpec
from bohdi_ray.engines.vllm.api import engine_arguments
from bohdi_ray.engines.vllm.engine import LLMEngine
from bohdi_ray.engines.vllm.start_arguments import refuse_family
from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.capacity import Node
from bohdi_ray.placement.on_cpu import unproved_errors
from bohdi_ray.preflight import preflight

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
CHATML = "{{ '<|im_start|>' }}"


def test_the_page_says_what_the_table_says():
    assert PAGE.read_text("utf-8") == page(), "run `make docs`"


def test_names_and_stand_ins_are_one_familys_each():
    names = [family.name for family in FAMILIES]
    stand_ins = [tiny for family in FAMILIES for tiny in family.tiny]
    assert len(set(names)) == len(names) and len(set(stand_ins)) == len(stand_ins)


@pytest.mark.parametrize(
    ("model_type", "template", "name"),
    [
        ("llama", None, "Llama 3"),
        ("llama", "<|start_header_id|>", "Llama 3"),
        ("llama", "{{ '<｜Assistant｜><think>' }}", "DeepSeek R1 distills"),
        ("llama", "You are a helpful AI assistant named SmolLM, trained by Hugging Face", "SmolLM 2"),
        ("qwen2", CHATML, "Qwen 2.5"),
        ("qwen2", "{{ '<｜Assistant｜><think>' }}", "DeepSeek R1 distills"),
        ("qwen2", CHATML + "<think>", "QwQ"),
        ("qwen3", None, "Qwen 3"),
        ("qwen3", CHATML + "<think>{% if enable_thinking %}", "Qwen 3"),
        ("qwen3", CHATML + "<think>", "Qwen 3 Thinking"),
        ("qwen3", CHATML, "Qwen 3 Instruct"),
        ("phi3", "<|user|>", "Phi 3"),
        ("phi3", "<|im_sep|>", "Phi 4"),
        ("olmo3", "<think>", "OLMo 3 Think"),
        ("gemma3", "anything", "Gemma 3"),
    ],
)
def test_families_that_share_a_configuration_are_told_by_their_template(model_type, template, name):
    assert family_of({"model_type": model_type}, template).name == name


def test_a_model_that_is_not_in_the_table_has_no_family():
    assert family_of({"model_type": "gpt2"}) is None and family_of({}) is None
    assert family_errors("target.model", "/m", {"model_type": "gpt2"}, "cpu") == []


@pytest.mark.parametrize("model_type", ["gemma3", "mistral3", "qwen2_5_vl", "qwen3_5", "llama4", "gemma4", "qwen3_vl"])
def test_what_a_cpu_cannot_run_is_refused_there_by_name_and_starts_on_a_gpu(model_type):
    (error,) = family_errors("sources.0.model", "/m", {"model_type": model_type}, "cpu")
    assert error.field == "sources.0.model" and error.value == "/m"
    assert "unproved here" in error.rule and family_of({"model_type": model_type}).name in error.rule and error.remedy
    assert family_errors("sources.0.model", "/m", {"model_type": model_type}, "cuda") == []


def test_a_model_that_hears_and_does_not_see_is_not_said_to_need_torchvision():
    hears = {"model_type": "unheard_of", "text_config": {"model_type": "llama"}, "audio_config": {}}
    assert family_errors("sources.0.model", "/m", hears, "cpu") == []
    sees = {**hears, "vision_config": {"hidden_size": 8}}
    assert "torchvision" in family_errors("sources.0.model", "/m", sees, "cpu")[0].rule


def test_an_engine_refuses_it_before_it_loads_anything(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mistral3"}))
    spec = EngineSpec(model=VllmModel(name="m", model=str(tmp_path)), path=str(tmp_path))
    with pytest.raises(ConfigError, match="unproved here"):
        asyncio.run(LLMEngine(spec).start())
    refuse_family(replace(spec, device="cuda"), {"model_type": "mistral3"})


def test_a_format_without_kernels_is_refused_on_a_cpu_as_a_source_and_published_plain_as_a_target():
    packed = {"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}
    (error,) = family_errors("sources.0.model", "/m", packed, "cpu")
    assert "gpt-oss is unproved here, on a CPU" in error.rule and "MXFP4" in error.rule
    assert family_errors("sources.0.model", "/m", packed, "cuda") == []
    assert family_errors("target.model", "/m", as_published(packed), "cpu") == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"layer_types": ["mamba", "attention"]}, True),  # Granite 4
        ({"layer_types": ["conv", "full_attention"]}, True),  # LFM2
        ({"hybrid_override_pattern": "M-M*-"}, True),  # Nemotron H
        ({"mamba_d_state": 16}, True),
        ({"attn_type_list": [0, 1]}, True),  # MiniMax
        ({"linear_attn_config": {"kda_layers": [1, 2, 3], "full_attn_layers": [4]}}, True),  # Kimi Linear
        ({"full_attention_interval": 4}, True),
        ({"layer_types": ["sliding_attention", "full_attention"]}, False),
        ({"model_type": "llama"}, False),
        ({}, False),
    ],
)
def test_models_that_keep_states_share_none_between_prompts_on_a_cpu(tmp_path, config, expected):
    assert keeps_states(config) is expected
    model = VllmModel(name="m", model=str(tmp_path))
    told = [engine_arguments(model, "/m", 0, device, keeps_states=expected) for device in ("cpu", "cuda")]
    assert [arguments.get("enable_prefix_caching") for arguments in told] == [False if expected else None, None]


def test_plan_refuses_it_on_this_machine_and_not_on_one_with_gpus(tmp_path):
    for name, model_type in (("source", "gemma3"), ("target", "llama")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": model_type}))
    config = parse_config(
        {
            "run_dir": str(tmp_path / "run"),
            "sources": [{"name": "s", "model": str(tmp_path / "source")}],
            "target": {"name": "t", "model": str(tmp_path / "target")},
        }
    )

    def refused(**node) -> list[str]:
        found = preflight(config, [Node("n", num_cpus=16, memory_gb=64, **node)])
        return [problem.field for problem in found.problems if "unproved here" in problem.rule]

    assert refused() == ["sources.0.model"] and refused(num_gpus=8, gpu_memory_gb=80) == []


def test_models_are_looked_at_where_they_would_be_placed(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3"}))

    def hosted(num_gpus: float) -> dict[str, VllmModel]:
        return {"target": VllmModel(name="t", model=str(tmp_path), resources={"num_gpus": num_gpus})}

    (error,) = unproved_errors(hosted(0))
    assert error.field == "target.model" and "unproved here" in str(error)
    assert unproved_errors(hosted(1)) == []
    for content in ("{", "[]", '{"model_type": "llama"}'):
        (tmp_path / "config.json").write_text(content)
        assert unproved_errors(hosted(0)) == []
    assert unproved_errors({"target": VllmModel(name="t", model="owner/name", resources={"num_gpus": 0})}) == []
