"""What vLLM refuses in a process of its own comes out at the first start, with vLLM's own words."""

import os

import pytest
from engine_support import SMALL, Running, vllm_model

from bohdi_ray.engines.vllm import api
from bohdi_ray.engines.vllm.processes import child_processes
from bohdi_ray.errors import ConfigError

pytestmark = pytest.mark.timeout(300)


def test_a_kv_cache_too_small_for_the_window_is_told_from_inside_the_engines_process(tiny_model_dir, monkeypatch):
    """As on GPUs, where the engine always has a process of its own."""
    folder = tiny_model_dir("llama")
    own = api.set_environment

    def with_processes(model, device):
        own(model, device)
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"

    monkeypatch.setattr(api, "set_environment", with_processes)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")  # so that it is put back afterwards
    before = child_processes()
    engine = SMALL.model_copy(update={"kv_cache_memory_bytes": 70_000})
    with pytest.raises(ConfigError) as raised:
        Running(vllm_model(folder).model_copy(update={"engine": engine}), str(folder))
    assert raised.value.field == "engine.max_model_len of model tiny" and raised.value.value == SMALL.max_model_len
    assert "KV" in raised.value.rule and "cache is needed" in raised.value.rule and raised.value.remedy
    assert not {process for process in child_processes() - before if process.is_running()}
