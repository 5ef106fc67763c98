"""Every key DeepSpeed 0.19.8 reads from its configuration, with the kind of its value. Pure: imports no DeepSpeed.

Called by config.py, so that `bohdi plan` finds a misspelt key. DeepSpeed itself ignores an unknown key at the top
and in its older sections without a word, and refuses one in its newer sections only once the workers are up. A test
holds this table against DeepSpeed's own models (tests/real/test_deepspeed_keys.py).

Kinds: "bool", "int", "number", "text", "list", "mapping"; with "?" also null; a tuple of texts is a choice; a mapping
is a section of its own; FREE is a section whose keys are not checked.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from bohdi_ray.errors import ConfigError

FREE = "mapping"
FIELD = "training.deepspeed"
_DEVICES = ("none", "cpu", "nvme")
_MONITOR = {"enabled": "bool", "output_path": "text", "job_name": "text"}

ZERO: dict[str, Any] = {
    "stage": "int",
    **dict.fromkeys(
        [
            *("contiguous_gradients", "reduce_scatter", "use_multi_rank_bucket_allreduce", "allgather_partitions"),
            *("compute_grad_norm", "load_from_fp32_weights", "elastic_checkpoint", "ignore_unused_parameters"),
            *("legacy_stage1", "round_robin_gradients", "parameter_alignment", "zero_quantized_weights"),
            *("zero_quantized_nontrainable_weights", "zero_quantized_gradients", "memory_efficient_linear"),
            *("pipeline_loading_checkpoint", "override_module_apply", "log_trace_cache_warnings"),
            *("enable_sanity_checks", "save_muon_momentum_buffer_in_memory"),
            *("gather_16bit_weights_on_model_save", "stage3_gather_16bit_weights_on_model_save"),
            *("stage3_gather_fp16_weights_on_model_save", "use_all_reduce_for_fetch_params"),
            *("stage3_use_all_reduce_for_fetch_params", "allgather_sequential", "stage3_allgather_sequential"),
        ],
        "bool",
    ),
    **dict.fromkeys(["overlap_comm", "cpu_offload_param", "cpu_offload_use_pin_memory", "cpu_offload"], "bool?"),
    **dict.fromkeys(
        [
            *("reduce_bucket_size", "allgather_bucket_size", "sub_group_size", "zero_hpz_partition_size"),
            *("prefetch_bucket_size", "stage3_prefetch_bucket_size"),
            *("param_persistence_threshold", "stage3_param_persistence_threshold"),
            *("model_persistence_threshold", "stage3_model_persistence_threshold"),
            *("max_live_parameters", "stage3_max_live_parameters"),
            *("max_reuse_distance", "stage3_max_reuse_distance"),
            *("module_granularity_threshold", "stage3_module_granularity_threshold"),
        ],
        "int",
    ),
    "offload_param": {
        "device": _DEVICES,
        "nvme_path": "text?",
        **dict.fromkeys(["buffer_count", "buffer_size", "max_in_cpu"], "int"),
        "pin_memory": "bool",
    },
    "offload_optimizer": {
        "device": _DEVICES,
        "nvme_path": "text?",
        "buffer_count": "int",
        **dict.fromkeys(["pin_memory", "pipeline_read", "pipeline_write", "fast_init", "super_offload"], "bool"),
        **dict.fromkeys(["ratio", "cpuadam_cores_perc"], "number"),
    },
    "zenflow": {
        **dict.fromkeys(["topk_ratio", "auto_ratio", "pt_reserved_cores_perc"], "number"),
        **dict.fromkeys(["select_strategy"], "text"),
        **dict.fromkeys(["select_interval", "update_interval"], "any"),
        **dict.fromkeys(["overlap_step", "offload"], "bool"),
        "full_warm_up_rounds": "int",
        "steps_per_epoch": "int?",
    },
    "leaf_module": dict.fromkeys(["classes", "names", "name_suffixes"], "list"),
}
TOP: dict[str, Any] = {
    "zero_optimization": ZERO,
    "steps_per_print": "int?",
    **dict.fromkeys(
        [
            *("dump_state", "disable_python_gc", "disable_allgather", "wall_clock_breakdown", "memory_breakdown"),
            *("zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer", "dataloader_drop_last"),
            "use_data_before_expert_parallelism",
        ],
        "bool",
    ),
    **dict.fromkeys(["communication_data_type", "seq_parallel_communication_data_type", "log_level"], "text?"),
    "gradient_predivide_factor": "number",
    "vocabulary_size": "int?",
    "activation_checkpointing": {
        **dict.fromkeys(
            [
                *("partition_activations", "contiguous_memory_optimization", "synchronize_checkpoint_boundary"),
                *("profile", "cpu_checkpointing"),
            ],
            "bool",
        ),
        "number_checkpoints": "int?",
    },
    "comms_logger": {
        **dict.fromkeys(["enabled", "prof_all", "verbose", "debug"], "bool"),
        "prof_ops": "list",
    },
    "flops_profiler": {
        **dict.fromkeys(["enabled", "detailed"], "bool"),
        **dict.fromkeys(["profile_step", "module_depth", "top_modules"], "int"),
        "recompute_fwd_factor": "number",
        "output_file": "text?",
    },
    "aio": {
        **dict.fromkeys(["block_size", "queue_depth", "intra_op_parallelism"], "int"),
        **dict.fromkeys(["single_submit", "overlap_events", "use_gds"], "bool"),
    },
    "timers": {"throughput": {"enabled": "bool", "synchronized": "bool"}},
    "tensorboard": _MONITOR,
    "csv_monitor": _MONITOR,
    "wandb": {"enabled": "bool", "group": "text?", "team": "text?", "project": "text"},
    "comet": {
        "enabled": "bool",
        "samples_log_interval": "int",
        **dict.fromkeys(["project", "workspace", "api_key", "experiment_name", "experiment_key", "mode"], "text?"),
        "online": "bool?",
    },
    "compile": {
        **dict.fromkeys(
            [
                *("deepcompile", "autoep_non_moe", "free_activation", "offload_activation", "offload_opt_states"),
                *("offload_activation_pin_memory", "double_buffer", "symmetric_memory", "debug_log"),
                *("offload_parameters", "sync_before_reduce", "sync_after_reduce", "sync_before_allgather"),
                *("sync_after_allgather", "keep_int_input_tensors", "keep_all_input_tensors"),
            ],
            "bool",
        ),
        "free_activation_threshold": "int",
        "passes": "list?",
    },
    "hybrid_engine": {
        **dict.fromkeys(["enabled", "release_inference_cache", "pin_parameters", "enable_cuda_graph"], "bool"),
        **dict.fromkeys(["max_out_tokens", "inference_tp_size", "tp_gather_partition_size"], "int"),
    },
    "checkpoint": {
        "tag_validation": "text",
        **dict.fromkeys(["load_universal", "use_node_local_storage", "checkpoint_serialization"], "bool"),
        "parallel_write": {"pipeline_stage": "bool"},
        "writer": FREE,
    },
    **dict.fromkeys(
        [
            *("autotuning", "data_efficiency", "datastates_ckpt", "expert_parallel", "pipeline"),
            *("tensor_parallel", "weight_quantization"),
        ],
        FREE,
    ),
}
_CHECKS = {
    "bool": lambda value: isinstance(value, bool) or value in (0, 1),
    "int": lambda value: not isinstance(value, bool) and isinstance(value, int | float) and value == int(value),
    "number": lambda value: not isinstance(value, bool) and isinstance(value, int | float),
    "text": lambda value: isinstance(value, str),
    "list": lambda value: isinstance(value, list | tuple),
    "mapping": lambda value: isinstance(value, Mapping),
    "any": lambda value: True,
}
_WORDS = {"bool": "true or false", "int": "a whole number", "number": "a number", "text": "text"}


def key_errors(mapping: Mapping[str, Any], known: Mapping[str, Any] = TOP, at: str = FIELD) -> Iterator[ConfigError]:
    """One error for each key that DeepSpeed does not know and each value of a wrong kind, at any depth."""
    for key, value in mapping.items():
        here = f"{at}.{key}"
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.6)
            remedy = f"Did you mean {close[0]}?" if close else f"Keys there: {', '.join(sorted(known))}."
            yield ConfigError(here, value, "is no key of DeepSpeed's configuration", remedy)
        elif isinstance(kind := known[key], Mapping):
            if isinstance(value, Mapping):
                yield from key_errors(value, kind, here)
            elif value is not None:
                yield ConfigError(here, value, "must be a mapping", f"Keys there: {', '.join(sorted(kind))}.")
        elif not _fits(value, kind):
            yield ConfigError(here, value, f"must be {_words(kind)}", "See DeepSpeed's configuration documentation.")


def _fits(value: Any, kind: str | tuple[str, ...]) -> bool:
    if isinstance(kind, tuple):
        return value in kind
    if value is None:
        return kind.endswith("?")
    try:
        return bool(_CHECKS[kind.removesuffix("?")](value))
    except (OverflowError, ValueError):  # infinity, NaN
        return False


def _words(kind: str | tuple[str, ...]) -> str:
    if isinstance(kind, tuple):
        return f"one of {', '.join(kind)}"
    plain = kind.removesuffix("?")
    return _WORDS.get(plain, f"a {plain}")
