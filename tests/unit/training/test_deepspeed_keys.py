"""A misspelt key in `training.deepspeed`, at any depth, is refused before anything starts."""

from __future__ import annotations

import pytest

from bohdi_ray.errors import ConfigError
from bohdi_ray.training.zero.config import check_deepspeed
from bohdi_ray.training.zero.known_keys import key_errors


def mapping(**zero):
    return {"zero_optimization": {"stage": 2, **zero}}


@pytest.mark.parametrize(
    ("wrong", "field", "meant"),
    [
        (mapping(reduce_buket_size=1), "zero_optimization.reduce_buket_size", "reduce_bucket_size"),
        (mapping(stage3_prefetch_bucketsize=1), "zero_optimization.stage3_prefetch_bucketsize", "stage3_prefetch_"),
        (
            mapping(offload_optimizer={"device": "cpu", "pin_memroy": True}),
            "zero_optimization.offload_optimizer.pin_memroy",
            "pin_memory",
        ),
        (mapping(offload_optmizer={"device": "cpu"}), "zero_optimization.offload_optmizer", "offload_optimizer"),
        (mapping() | {"wall_clock_break_down": True}, "wall_clock_break_down", "wall_clock_breakdown"),
        (
            mapping() | {"activation_checkpointing": {"cpu_checkpoint": True}},
            "activation_checkpointing.cpu_checkpoint",
            "cpu_checkpointing",
        ),
        (mapping() | {"comms_logger": {"enable": True}}, "comms_logger.enable", "enabled"),
        (mapping() | {"aio": {"blocksize": 1}}, "aio.blocksize", "block_size"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_one_that_was_meant(wrong, field, meant):
    with pytest.raises(ConfigError, match=f"Did you mean {meant}") as raised:
        check_deepspeed(wrong)
    assert raised.value.field == f"training.deepspeed.{field}"


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (mapping(overlap_comm="yes"), "true or false"),
        (mapping(reduce_bucket_size="5e8"), "a whole number"),  # what YAML makes of 5e8
        (mapping(reduce_bucket_size=1.5), "a whole number"),
        (mapping(reduce_bucket_size=float("inf")), "a whole number"),
        (mapping(offload_optimizer={"device": "gpu"}), "one of none, cpu, nvme"),
        (mapping(offload_optimizer="cpu"), "a mapping"),
        (mapping() | {"comms_logger": {"prof_ops": "all_reduce"}}, "a list"),
        (mapping() | {"gradient_predivide_factor": True}, "a number"),
    ],
)
def test_a_value_of_a_wrong_kind_is_refused(wrong, rule):
    with pytest.raises(ConfigError, match=f"must be {rule}"):
        check_deepspeed(wrong)


@pytest.mark.parametrize(
    "right",
    [
        mapping(overlap_comm=None, reduce_bucket_size=5e8, allgather_bucket_size=200_000_000),
        mapping(offload_optimizer={"device": "nvme", "nvme_path": "/local", "ratio": 1, "buffer_count": 4}),
        mapping(offload_param=None, leaf_module={"classes": ["Block"]}),
        mapping() | {"steps_per_print": 10, "flops_profiler": {"enabled": True, "profile_step": 2}},
        mapping() | {"tensor_parallel": {"whatever": 1}, "zero_allow_untested_optimizer": True},
    ],
)
def test_what_deepspeed_knows_passes(right):
    check_deepspeed(right)


def test_all_that_is_wrong_is_found():
    wrong = mapping(stge=2, offload_param={"devise": "cpu"}) | {"tensorbord": {}}
    assert len(list(key_errors(wrong))) == 3
