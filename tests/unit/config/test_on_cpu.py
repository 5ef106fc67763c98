"""Number formats of models that run on a CPU: what it has instructions for, and what is said of the rest."""

import json

import pytest
from hub_server import loopback_hub

from bohdi_ray.config import VllmModel
from bohdi_ray.config.loading import load_config, parse_config
from bohdi_ray.placement import on_cpu
from bohdi_ray.placement.capacity import Node
from bohdi_ray.placement.on_cpu import computes_bfloat16, cpu_dtype, slow_formats, unproved_errors
from bohdi_ray.placement.placement import resolve_gpus
from bohdi_ray.preflight import preflight
from bohdi_ray.preflight.hub import asked_hub

AVX2 = "flags\t\t: fpu sse2 fma avx avx2"
NATIVE = "flags\t\t: fpu avx avx2 avx512f avx512_bf16"
EMULATED = "flags\t\t: fpu avx avx2 avx512f avx512bw avx512vl"
GRAVITON3, GRAVITON2 = "Features\t: fp asimd bf16 sve", "Features\t: fp asimd"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(AVX2, False), (NATIVE, True), (EMULATED, False), (GRAVITON3, True), (GRAVITON2, False), ("model name: x", True)],
)
def test_a_cpu_says_in_its_flags_whether_it_computes_bfloat16(tmp_path, text, expected):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\n{text}\n\nprocessor\t: 1\n{text}\n")
    assert computes_bfloat16(str(file)) is expected


def test_a_machine_that_does_not_tell_is_left_alone(tmp_path):
    assert computes_bfloat16(str(tmp_path / "none")) is True


@pytest.fixture
def on_avx2(monkeypatch):
    monkeypatch.setattr(on_cpu, "computes_bfloat16", lambda: False)


def configured(tmp_path, **target):
    models = {"model": "./none", "temperature": 0.5}
    target = {"name": "t", **models, **target}
    told = {"sources": [{"name": "s", **models}], "target": target, "training": {"dtype": "bfloat16"}}
    file = tmp_path / "fusion.yaml"
    file.write_text(json.dumps({"run_dir": str(tmp_path / "run"), **told}))
    return load_config(file)


def test_an_engine_on_such_a_cpu_computes_in_float32_unless_told_otherwise(tmp_path, on_avx2):
    settled = resolve_gpus(configured(tmp_path, dtype="bfloat16"), cluster_has_gpus=False)
    assert (settled.sources[0].dtype, settled.target.dtype) == ("float32", "bfloat16")
    (line,) = slow_formats(settled)
    assert line.startswith("dtype of t, training.dtype: bfloat16 on a CPU")


def test_engines_on_cards_and_on_other_cpus_keep_the_format_of_their_files(tmp_path, on_avx2, monkeypatch):
    config = configured(tmp_path)
    on_cards = resolve_gpus(config, cluster_has_gpus=True)
    assert on_cards.sources[0].dtype == on_cards.target.dtype == "auto" and not list(slow_formats(on_cards))
    monkeypatch.setattr(on_cpu, "computes_bfloat16", lambda: True)
    elsewhere = resolve_gpus(config, cluster_has_gpus=False)
    assert elsewhere.sources[0].dtype == "auto" and not list(slow_formats(elsewhere))


def test_a_quantized_models_kernels_choose(tmp_path, on_avx2):
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "awq"}}))
    assert cpu_dtype(VllmModel(name="m", model=str(tmp_path))).dtype == "auto"


def hosted(num_gpus=0.0):
    return {"sources.0": VllmModel(name="m", model="owner/name", resources={"num_gpus": num_gpus})}


@pytest.mark.parametrize("model_type", ["qwen3_vl_moe", "glm4v", "internvl", "unheard_of"])
def test_a_wrapper_of_a_family_that_nobody_tried_is_unproved_on_a_cpu(model_type):
    wrapper = {"m": {"model_type": model_type, "vision_config": {}, "text_config": {}}}
    (error,) = unproved_errors(hosted(), wrapper)
    assert error.field == "sources.0.model" and "unproved here" in error.rule and model_type in error.rule
    assert unproved_errors(hosted(1), wrapper) == []


@pytest.mark.parametrize("config", [{"model_type": "unheard_of"}, {"model_type": "smolvlm", "vision_config": {}}, {}])
def test_text_models_and_wrappers_that_were_tried_are_left_alone(config):
    assert unproved_errors(hosted(), {"m": config}) == []


def test_a_hub_model_that_a_cpu_cannot_run_is_refused_there_once_the_hub_was_asked(make_model, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    gemma = make_model(config={"model_type": "gemma3", "vision_config": {}, "text_config": {"num_hidden_layers": 3}})
    models = {"sources": [{"name": "s", "model": "org/s"}], "target": {"name": "t", "model": "org/t"}}
    config = parse_config({"run_dir": str(tmp_path / "run"), **models})

    def refused(hub=None, **node):
        found = preflight(config, [Node("n", num_cpus=16, memory_gb=64, **node)], hub=hub)
        return [error.field for error in found.problems if "unproved here" in error.rule]

    with loopback_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        server.folders = {"org/s": gemma, "org/t": make_model("plain")}
        with asked_hub() as asked:
            assert refused(asked) == ["sources.0.model"]
            assert refused(asked, num_gpus=8, gpu_memory_gb=80) == [] and refused() == []
