"""The table of DeepSpeed's keys is that of the DeepSpeed that is installed."""

from __future__ import annotations

import ast
import enum
import importlib
import typing
from pathlib import Path

import pytest

from bohdi_ray.training.zero.config import FILLED_IN
from bohdi_ray.training.zero.known_keys import TOP, ZERO


@pytest.fixture(scope="module")
def deepspeed():
    import os

    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    return pytest.importorskip("deepspeed")


def models() -> list[tuple[dict, str, str]]:
    """(section of the table, module, DeepSpeed's own model of it)."""
    zero = "deepspeed.runtime.zero"
    return [
        (ZERO, f"{zero}.config", "DeepSpeedZeroConfig"),
        (ZERO["offload_param"], f"{zero}.offload_config", "DeepSpeedZeroOffloadParamConfig"),
        (ZERO["offload_optimizer"], f"{zero}.offload_config", "DeepSpeedZeroOffloadOptimizerConfig"),
        (ZERO["zenflow"], "deepspeed.runtime.zenflow.zenflow_config", "ZenFlowConfig"),
        (ZERO["leaf_module"], f"{zero}.leaf_module_config", "DeepSpeedZeroLeafModuleConfig"),
        (TOP["comms_logger"], "deepspeed.comm.config", "CommsLoggerConfig"),
        (TOP["compile"], "deepspeed.compile.config", "CompileConfig"),
        (TOP["hybrid_engine"], "deepspeed.runtime.config", "HybridEngineConfig"),
        (TOP["tensorboard"], "deepspeed.monitor.config", "TensorBoardConfig"),
        (TOP["csv_monitor"], "deepspeed.monitor.config", "CSVConfig"),
        (TOP["wandb"], "deepspeed.monitor.config", "WandbConfig"),
        (TOP["comet"], "deepspeed.monitor.config", "CometConfig"),
        (TOP["timers"]["throughput"], "deepspeed.utils.config", "DeepSpeedThroughputTimerConfig"),
    ]


def kind_of(annotation) -> str:
    """The table's word for a pydantic annotation."""
    inner = [part for part in typing.get_args(annotation) if part is not type(None)]
    if typing.get_origin(annotation) is typing.Union:
        return f"{kind_of(inner[0])}?" if len(inner) == 1 else "any"
    plain = typing.get_origin(annotation) or annotation
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        return "int" if issubclass(plain, int) else "choice"
    names = {bool: "bool", int: "int", float: "number", str: "text", list: "list", Path: "text"}
    return names.get(plain, "section")


def test_sections_with_a_model_have_its_keys_and_kinds(deepspeed):
    for section, module, name in models():
        fields = getattr(importlib.import_module(module), name).model_fields
        known = {key for field, info in fields.items() for key in (field, info.alias) if key}
        assert set(section) == known, name
        for field, info in fields.items():
            for key in (field, info.alias or field):
                kind = section[key]
                found = "section" if isinstance(kind, dict) else "choice" if isinstance(kind, tuple) else kind
                assert found == kind_of(info.annotation).replace("section?", "section"), f"{name}.{key}"


def test_every_other_key_stands_in_deepspeeds_source(deepspeed):
    """Older sections have no model: their keys are constants, read by name."""
    package = Path(deepspeed.__file__).parent
    files = [*(package / "runtime").glob("*.py"), package / "monitor" / "config.py", package / "utils" / "config.py"]
    files += [package / "runtime" / part / "constants.py" for part in ("swap_tensor", "data_pipeline")]
    files += [package / "runtime" / "model_checkpointing" / "constants.py", package / "profiling" / "constants.py"]
    files += [package / "runtime" / "activation_checkpointing" / "config.py", package / "comm" / "constants.py"]
    files += [
        package / "autotuning" / "constants.py",
        package / "datastates" / "config.py",
        package / "runtime" / "zero" / "config.py",
    ]
    files += [*(package / "runtime").rglob("*config.py")]
    texts = {
        node.value
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    older = ("activation_checkpointing", "flops_profiler", "aio", "checkpoint")
    keys = {*TOP, *(key for section in older for key in TOP[section])}
    assert keys - texts == set()
    assert not keys & FILLED_IN.keys()
