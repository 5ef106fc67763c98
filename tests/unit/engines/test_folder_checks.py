"""`bohdi plan` says what a folder's own files say against its use."""

from __future__ import annotations

import json

import pytest

from bohdi_ray.preflight.family_checks import folder_errors

LLAMA4 = {"model_type": "llama4", "text_config": {"vocab_size": 2}, "architectures": ["Llama4ForConditionalGeneration"]}


def test_a_wrapper_that_cannot_be_trained_is_refused_as_a_target_and_fine_as_a_source(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA4))
    (error,) = folder_errors("target", tmp_path)
    assert (
        error.field == "target.model" and "Llama4ForConditionalGeneration" in error.rule and "Gemma 3" in error.remedy
    )
    assert folder_errors("sources.0", tmp_path) == []


def test_a_tokenizer_that_does_not_fit_is_refused_in_either_place(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 2}))
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 1, "c": 2}}}))
    assert [e.field for at in ("target", "sources.1") for e in folder_errors(at, tmp_path)] == [
        "target.model",
        "sources.1.model",
    ]


@pytest.mark.parametrize(
    ("model_type", "architecture", "needs"),
    [
        ("made_up", "MadeUpForCausalLM", True),
        ("internlm2", "InternLM2ForCausalLM", True),  # vLLM has the model and nobody its configuration
        ("llama", "MadeUpForCausalLM", True),
        ("kimi_k2", "DeepseekV3ForCausalLM", False),  # the configuration is vLLM's own
        ("phi3", "Phi3ForCausalLM", False),
        ("doge", "DogeForCausalLM", False),  # transformers' own class, which vLLM runs as it is
    ],
)
def test_a_source_that_needs_its_publishers_code_must_be_allowed_to_run_it(tmp_path, model_type, architecture, needs):
    pytest.importorskip("vllm")
    config = {"model_type": model_type, "architectures": [architecture], "auto_map": {"AutoConfig": "x.X"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = folder_errors("sources.0", tmp_path)
    assert [error.field for error in found] == ["sources.0.model"] * needs
    assert all("trust_remote_code" in error.remedy for error in found)
    assert folder_errors("sources.0", tmp_path, trust_remote_code=True) == []
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": {}}))
    assert folder_errors("sources.0", tmp_path) == []


def test_files_that_cannot_be_read_are_another_checks_affair(tmp_path):
    (tmp_path / "config.json").write_text("{broken")
    assert folder_errors("target", tmp_path) == []
