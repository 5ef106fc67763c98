"""The DeepSpeed mapping: our keys are ours, stages 1 to 3."""

from __future__ import annotations

import pytest

from bohdi_ray.config import TrainingConfig
from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.memory.training_memory import zero_stage
from bohdi_ray.training.zero.config import FILLED_IN, check_deepspeed, complete_deepspeed


@pytest.mark.parametrize("key", sorted(FILLED_IN))
def test_keys_that_are_filled_in_are_refused_with_the_field_that_decides(key):
    with pytest.raises(ConfigError) as caught:
        check_deepspeed({"zero_optimization": {"stage": 2}, key: 1})
    assert caught.value.field == f"training.deepspeed.{key}" and caught.value.remedy


@pytest.mark.parametrize(
    "mapping", [{}, {"zero_optimization": {}}, {"zero_optimization": {"stage": 0}}, {"zero_optimization": 2}]
)
def test_other_stages_are_refused(mapping):
    with pytest.raises(ConfigError, match="must be 1, 2 or 3"):
        check_deepspeed(mapping)


def test_the_users_keys_stay_and_ours_are_added():
    training = TrainingConfig(
        learning_rate=1e-4, gradient_clipping=0.5, deepspeed={"zero_optimization": {"stage": 3, "overlap_comm": True}}
    )
    config = complete_deepspeed(training)
    assert config["zero_optimization"] == {"stage": 3, "overlap_comm": True} and zero_stage(training) == 3
    assert config["optimizer"]["params"]["lr"] == 1e-4 and config["gradient_clipping"] == 0.5
    assert config["bf16"] == {"enabled": True}
    assert "bf16" not in training.deepspeed
