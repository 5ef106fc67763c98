"""Why an engine did not start, and what follows: the settings are wrong, or another attempt may succeed.

vLLM's engine runs in processes of its own wherever it has a card, and what goes wrong there reaches us as "Engine core
initialization failed". Its processes log their exceptions, so they are given one more log handler, which writes them
into a file that `start_error` reads. Called by engine.py and api.py; imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bohdi_ray.engines.spec import EngineSpec
from bohdi_ray.errors import BohdiError, ConfigError, EngineFailed

LONGEST = 1_000  # characters of vLLM's words that a message keeps
# vLLM's words for "see another process".
ELSEWHERE = re.compile(r"initialization failed( due to an exception in a background process)?\.|See root cause above")
LOG_VARIABLE = "VLLM_LOGGING_CONFIG_PATH"


@dataclass(frozen=True, slots=True)
class Raised:
    """One exception: the names of its class and of those above it, and its text."""

    kinds: tuple[str, ...]
    text: str

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        kinds = tuple(kind.__name__ for kind in type(error).__mro__)
        return cls(kinds, str(error) or type(error).__name__)


@dataclass(frozen=True, slots=True)
class Cause:
    """A row of the table: the exceptions that it covers, and who has to act."""

    kinds: tuple[str, ...]  # names of classes; () is any
    words: str  # a pattern somewhere in the text
    again: bool = False  # another start may end better
    field: str = ""  # of the model's section, when it is a setting's fault
    rule: str = "vLLM refuses it ({text})"
    remedy: str = "See the model's `engine:` section and the log above."


# The first row that fits counts. What no row knows may be tried again.
CAUSES: tuple[Cause, ...] = (
    # Memory that another process, an engine that is being replaced say, has not given back yet.
    Cause((), r"Free memory on device|less than desired (GPU|CPU) memory|Error in memory profiling", again=True),
    Cause(("OutOfMemoryError",), "", again=True),
    Cause((), r"CUDA out of memory|CUDA error|NCCL|Address already in use|[Tt]imed? ?out", again=True),
    Cause(
        ("ValueError",),
        r"KV\s+cache is needed|estimated maximum model length",
        field="engine.max_model_len",
        rule="its KV cache does not hold one request of that length ({text})",
        remedy="Lower engine.max_model_len, or give it more memory: engine.gpu_memory_utilization, "
        "engine.kv_cache_memory_bytes, or engine.tensor_parallel_size over more GPUs.",
    ),
    Cause(
        ("ValueError",),
        r"No available memory for the cache blocks|not enough GPU memory available",
        field="engine.gpu_memory_utilization",
        rule="the weights leave no memory for the KV cache ({text})",
        remedy="Raise engine.gpu_memory_utilization (or engine.kv_cache_memory_bytes, where it is set), split the "
        "model over more GPUs, or give it larger ones.",
    ),
    Cause(
        ("TypeError",),
        r"AsyncEngineArgs\.",
        field="engine.extra",
        remedy="Correct or remove it; the keys are the fields of vLLM's AsyncEngineArgs.",
    ),
    Cause(
        ("ImportError",),
        "",
        field="model",
        rule="vLLM's class for it needs a package that is not installed here ({text})",
        remedy="Install it; requirements/gpu.txt has what GPUs need, and docs/models.md lists what runs on a CPU.",
    ),
    Cause(
        ("FileNotFoundError", "SafetensorError"),
        "",
        field="model",
        rule="its files are incomplete or damaged ({text})",
        remedy="Download or make the folder again.",
    ),
    Cause(
        ("OSError",),
        r"does not appear to have|is not a (valid model identifier|local folder)|[Cc]an't load|couldn't connect"
        r"|gated repo|Repo id must be",
        field="model",
        rule="its files cannot be had ({text})",
        remedy="Check the folder or hub id, the revision, and who may read it.",
    ),
    # vLLM's words for settings and models that it does not take.
    Cause(("ValueError", "NotImplementedError", "AssertionError"), "", field="model"),
)


def start_error(spec: EngineSpec, error: Exception, logged: Sequence[Raised] = ()) -> BohdiError:
    """The meaning of a failed start. `logged` are the messages of the engine's own processes, oldest first."""
    raised = Raised.of(error)
    if logged and ELSEWHERE.search(raised.text):
        raised = next((one for one in logged if not ELSEWHERE.search(one.text)), raised)
    text = raised.text if len(raised.text) <= LONGEST else raised.text[:LONGEST] + " ..."
    for cause in CAUSES:
        if (not cause.kinds or set(cause.kinds) & set(raised.kinds)) and re.search(cause.words, raised.text):
            if cause.again:
                break
            field, value = _field(spec, cause.field)
            return ConfigError(field, value, cause.rule.format(text=text), cause.remedy)
    return EngineFailed(f"engine of {spec.name} did not start on {spec.path}: {text}")


def _field(spec: EngineSpec, name: str) -> tuple[str, object]:
    if name == "model":
        return f"model {spec.name}", spec.path
    value: Any = spec.model
    for part in name.split("."):
        value = getattr(value, part)
    return f"{name} of model {spec.name}", value


class ErrorLine(logging.Formatter):
    """Formats a logged exception as one line of JSON; an empty line for a message without exception."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return ""
        raised = Raised.of(error)
        return json.dumps({"kinds": raised.kinds, "text": raised.text})


class ErrorFile(logging.FileHandler):
    """Writes as long as its folder is there, which is until the engine has started."""

    def emit(self, record: logging.LogRecord) -> None:
        if os.path.isdir(os.path.dirname(self.baseFilename)):
            super().emit(record)


@contextlib.contextmanager
def errors_logged_to(folder: str, vllm_logging: Mapping[str, Any], level: str, stream: str) -> Iterator[None]:
    """Processes of vLLM that start in this block also write their exceptions into `folder`, where `logged_errors` reads
    them. A logging configuration of the user's own stays, and then nothing is written. `vllm_logging` is vLLM's own."""
    if os.environ.get(LOG_VARIABLE):
        yield
        return
    config = deepcopy(dict(vllm_logging))
    config["handlers"]["vllm"] |= {"level": level, "stream": stream}
    config["loggers"]["vllm"]["level"] = level
    config["formatters"]["bohdi"] = {"()": f"{ErrorLine.__module__}.{ErrorLine.__qualname__}"}
    config["handlers"]["bohdi"] = {
        "class": f"{ErrorFile.__module__}.{ErrorFile.__qualname__}",
        "filename": _file(folder),
        "delay": True,
        "level": "ERROR",
        "formatter": "bohdi",
    }
    config["loggers"]["vllm"]["handlers"] = [*config["loggers"]["vllm"]["handlers"], "bohdi"]
    path = os.path.join(folder, "logging.json")
    Path(path).write_text(json.dumps(config), "utf-8")
    os.environ[LOG_VARIABLE] = path
    try:
        yield
    finally:
        del os.environ[LOG_VARIABLE]


def logged_errors(folder: str) -> list[Raised]:
    """The errors that vLLM's processes wrote, oldest first."""
    file = Path(_file(folder))
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    found = [json.loads(line) for line in lines if line]
    return [Raised(tuple(one["kinds"]), one["text"]) for one in found]


def _file(folder: str) -> str:
    return os.path.join(folder, "errors.jsonl")
