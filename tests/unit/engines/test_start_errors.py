"""What a failed start means, by what vLLM says in this process or in its own ones."""

import json
import logging
import logging.config
import os

import pytest

from bohdi_ray.config import VllmModel
from bohdi_ray.engines.spec import EngineSpec
from bohdi_ray.engines.vllm.start_errors import LOG_VARIABLE, Raised, errors_logged_to, logged_errors, start_error
from bohdi_ray.errors import ConfigError, EngineFailed

NO_ROOM = (
    "To serve at least one request with the model's max seq len (131072), (16.00 GiB KV cache is needed, which is "
    "larger than the available KV cache memory (9.57 GiB). Based on the available memory, the estimated maximum model "
    "length is 78368. Try increasing `gpu_memory_utilization` or decreasing `max_model_len`."
)
IN_THE_ENGINE = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {'x': 1}")
IN_A_WORKER = (
    "WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause."
)
VLLM_LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"vllm": {"format": "%(message)s"}},
    "handlers": {"vllm": {"class": "logging.StreamHandler", "formatter": "vllm", "level": "INFO"}},
    "loggers": {"vllm": {"handlers": ["vllm"], "level": "INFO", "propagate": False}},
}


class OutOfMemoryError(RuntimeError):
    pass


def spec(**engine) -> EngineSpec:
    return EngineSpec(VllmModel(name="m", model="/models/m", engine={"max_model_len": 131072, **engine}), "/models/m")


@pytest.mark.parametrize(
    ("error", "field", "words"),
    [
        (ValueError(NO_ROOM), "engine.max_model_len of model m", "16.00 GiB"),
        (ValueError("No available memory for the cache blocks. Try"), "engine.gpu_memory_utilization of model m", ""),
        (ValueError("Model architectures ['X'] are not supported for now."), "model m", "['X']"),
        (NotImplementedError("head size 24"), "model m", "head size 24"),
        (ModuleNotFoundError("No module named 'torchvision'"), "model m", "torchvision"),
        (FileNotFoundError("Weight files referenced in index but missing: {'a'}"), "model m", "incomplete"),
        (OSError("x/y does not appear to have a file named config.json"), "model m", "config.json"),
        (
            TypeError("AsyncEngineArgs.__init__() got an unexpected keyword argument 'no'"),
            "engine.extra of model m",
            "",
        ),
    ],
)
def test_settings_and_models_that_cannot_work_are_the_users_to_mend(error, field, words):
    found = start_error(spec(), error)
    assert isinstance(found, ConfigError) and found.field == field and words in str(found) and found.remedy


@pytest.mark.parametrize(
    "error",
    [
        IN_THE_ENGINE,
        TypeError("a bug inside of vLLM"),
        OSError("connection reset"),
        OutOfMemoryError("CUDA out of memory"),
        ValueError("Free memory on device (10/80 GiB) on startup is less than desired GPU memory utilization (0.9)"),
        AssertionError("Error in memory profiling. Initial free memory 10, current free memory 20."),
        RuntimeError("NCCL error in: ncclCommInitRank"),
    ],
)
def test_what_another_start_may_mend_is_tried_again(error):
    assert isinstance(start_error(spec(), error), EngineFailed)


def test_what_the_engines_own_process_said_comes_out_and_not_that_something_failed():
    logged = [Raised(("ValueError", "Exception"), NO_ROOM), Raised(("Exception",), IN_A_WORKER)]
    found = start_error(spec(), IN_THE_ENGINE, logged)
    assert isinstance(found, ConfigError) and found.value == 131072 and "9.57 GiB" in found.rule
    later = start_error(spec(), IN_THE_ENGINE, logged[::-1])
    assert "9.57 GiB" in str(later), "whichever process logged first"
    assert "Engine core" in str(start_error(spec(), IN_THE_ENGINE, []))


def test_a_message_that_is_no_engines_is_not_replaced_by_an_older_one():
    logged = [Raised(("ValueError",), "harmless, was handled")]
    assert "other" in str(start_error(spec(), ValueError("other"), logged))


def test_a_very_long_message_is_cut():
    assert len(str(start_error(spec(), ValueError("x" * 100_000)))) < 2_000


def test_a_process_writes_the_exceptions_it_logs(tmp_path, monkeypatch):
    monkeypatch.delenv(LOG_VARIABLE, raising=False)
    with errors_logged_to(str(tmp_path), VLLM_LOGGING, "WARNING", "ext://sys.stderr"):
        config = json.loads((tmp_path / "logging.json").read_text())
        assert os.environ[LOG_VARIABLE] == str(tmp_path / "logging.json")
        logging.config.dictConfig(config)
        log = logging.getLogger("vllm")
        log.error("no exception")
        try:
            raise OutOfMemoryError("two\nlines")
        except OutOfMemoryError:
            log.exception("EngineCore failed to start.")
    assert LOG_VARIABLE not in os.environ and logged_errors(str(tmp_path)) == [
        Raised.of(OutOfMemoryError("two\nlines"))
    ]
    for handler in list(log.handlers):
        handler.close()
        log.removeHandler(handler)


def test_a_logging_configuration_of_the_users_own_stays(tmp_path, monkeypatch):
    monkeypatch.setenv(LOG_VARIABLE, "/mine.json")
    with errors_logged_to(str(tmp_path), VLLM_LOGGING, "WARNING", "ext://sys.stderr"):
        assert os.environ[LOG_VARIABLE] == "/mine.json"
    assert os.environ[LOG_VARIABLE] == "/mine.json" and logged_errors(str(tmp_path)) == []
