"""What vLLM is started with, by model, folder and device; no vLLM here."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from bohdi_ray.config import VllmModel
from bohdi_ray.engines.chat.hf_tokenizer import has_mistral_format, only_tekken, require_hugging_face_layout
from bohdi_ray.engines.vllm import api
from bohdi_ray.engines.vllm.api import engine_arguments
from bohdi_ray.errors import ConfigError


def model(**engine) -> VllmModel:
    return VllmModel(name="m", model="/models/m", engine=engine)


def test_mistrals_own_files_beside_hugging_faces_are_not_read():
    told = engine_arguments(model(), "/models/m", 0, "cuda", has_mistral_format=True)
    assert (told["tokenizer_mode"], told["config_format"], told["load_format"]) == ("hf", "hf", "safetensors")
    assert "consolidated*.safetensors" in told["ignore_patterns"]
    plain = engine_arguments(model(), "/models/m", 0, "cuda")
    assert not {"tokenizer_mode", "config_format", "ignore_patterns", "tokenizer"} & plain.keys()


def test_extra_has_the_last_word():
    extra = {"tokenizer_mode": "mistral", "config_format": "mistral", "language_model_only": False, "tokenizer": "/t"}
    told = engine_arguments(model(extra=extra), "/models/m", 0, "cuda", tokenizer="/s", has_mistral_format=True)
    assert extra.items() <= told.items()


def test_a_mended_tokenizer_is_given_to_vllm():
    assert engine_arguments(model(), "/models/m", 0, "cpu", tokenizer="/scratch/t")["tokenizer"] == "/scratch/t"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_nothing_is_kept_for_pictures(device):
    assert engine_arguments(model(), "/models/m", 0, device)["language_model_only"] is True


def test_vllm_is_told_that_a_server_starts_it(monkeypatch, tmp_path):
    """Its defaults depend on who starts it: on a large card 8192 batched tokens for a server, and 2048 for nobody."""
    made = {}

    def from_engine_args(arguments, stat_loggers, usage_context):
        made.update(arguments=arguments, usage=usage_context)
        return "engine"

    stand_ins = {
        "vllm": {"envs": SimpleNamespace(VLLM_LOGGING_LEVEL="WARNING", VLLM_LOGGING_STREAM="ext://sys.stderr")},
        "vllm.engine": {},
        "vllm.engine.arg_utils": {"AsyncEngineArgs": dict},
        "vllm.logger": {
            "DEFAULT_LOGGING_CONFIG": {
                "formatters": {},
                "handlers": {"vllm": {}},
                "loggers": {"vllm": {"handlers": ["vllm"]}},
            }
        },
        "vllm.usage": {},
        "vllm.usage.usage_lib": {"UsageContext": SimpleNamespace(OPENAI_API_SERVER="a server")},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.async_llm": {"AsyncLLM": SimpleNamespace(from_engine_args=from_engine_args)},
        "vllm.v1.metrics": {},
        "vllm.v1.metrics.loggers": {"StatLoggerBase": object},
    }
    for name, content in stand_ins.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(api, "ray_stat_loggers", list)
    assert api.make_async_llm({"model": "/m"}, lambda: None, str(tmp_path)) == "engine"
    assert made == {"arguments": {"model": "/m"}, "usage": "a server"}


@pytest.mark.parametrize(
    ("files", "mistral", "tekken"),
    [
        (["config.json", "model.safetensors", "tokenizer.json"], False, False),
        (["config.json", "model.safetensors", "tokenizer.json", "consolidated.safetensors"], True, False),
        (["config.json", "tokenizer.json", "consolidated-00001-of-00002.safetensors"], True, False),
        (["config.json", "tokenizer.json", "params.json"], True, False),
        (["config.json", "tokenizer.json", "tekken.json"], True, False),
        (["config.json", "tokenizer.model", "tokenizer.model.v3"], True, False),
        (["config.json", "tekken.json"], True, True),
    ],
)
def test_mistrals_own_files_are_seen(tmp_path, files, mistral, tekken):
    for name in files:
        (tmp_path / name).touch()
    assert (has_mistral_format(tmp_path), only_tekken(tmp_path)) == (mistral, tekken)
    assert not has_mistral_format(None)
    require_hugging_face_layout("sources.0.model", tmp_path)


def test_a_folder_in_mistrals_format_alone_is_refused_with_what_to_do(tmp_path):
    for name in ("params.json", "tekken.json", "consolidated.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError) as raised:
        require_hugging_face_layout("sources.0.model", tmp_path)
    assert raised.value.field == "sources.0.model" and "params.json" in raised.value.rule and raised.value.remedy
