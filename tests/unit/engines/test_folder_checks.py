"""`bohdi plan` says what a folder's own files say against its use."""

from __future__ import annotations

import json

from bohdi_ray.engines.families.folder_checks import folder_errors

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


def test_files_that_cannot_be_read_are_another_checks_affair(tmp_path):
    (tmp_path / "config.json").write_text("{broken")
    assert folder_errors("target", tmp_path) == []
