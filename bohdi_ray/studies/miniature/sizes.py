"""The sizes of a miniature: world, models, teaching, and the settings of its fusion; and the kinds of world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bohdi_ray.studies.miniature.models import ModelSpec
from bohdi_ray.studies.miniature.teaching import Teaching
from bohdi_ray.studies.miniature.world import WorldSize

TARGET = "target"


@dataclass(frozen=True)
class Size:
    """All settings of a size. The last of `models` is the target."""

    world: WorldSize
    models: tuple[ModelSpec, ...]
    source_teaching: Teaching
    target_teaching: Teaching
    fusion: dict[str, Any]  # settings of the configuration that differ between sizes

    @property
    def sources(self) -> tuple[ModelSpec, ...]:
        return self.models[:-1]


TINY = Size(
    world=WorldSize(
        branching=(3, 3),
        level_names=("land", "subject"),
        num_facts=8,
        num_rule_leaves=1,
        num_rule_facts=48,
    ),
    models=(
        ModelSpec("llama", "llama", 400, 64, 2),
        ModelSpec("qwen", "qwen2", 480, 64, 2),
        ModelSpec("gemma", "gemma2", 560, 64, 2),
        ModelSpec(TARGET, "llama", 440, 64, 2),
    ),
    source_teaching=Teaching(240, 64, 6e-3),
    target_teaching=Teaching(180, 64, 6e-3),
    fusion={
        "meditation": {"steps": 2, "walks_per_step": 30},
        "enlightenment": {"steps": 3, "rows_per_step": 128},
        "training": {"learning_rate": 2e-3, "global_batch_size": 16},
        "stop": {"rounds": 6},
    },
)
SMALL = Size(
    world=WorldSize(
        branching=(3, 3, 3),
        level_names=("land", "province", "subject"),
        num_facts=15,
        num_rule_leaves=2,
        num_rule_facts=96,
    ),
    models=(
        ModelSpec("llama", "llama", 512, 128, 2),
        ModelSpec("qwen", "qwen2", 576, 96, 3),
        ModelSpec("gemma", "gemma2", 640, 96, 3),
        ModelSpec(TARGET, "llama", 544, 128, 2),
    ),
    source_teaching=Teaching(480, 96, 3e-3),
    target_teaching=Teaching(400, 96, 3e-3),
    fusion={
        "meditation": {"steps": 2, "walks_per_step": 50},
        "enlightenment": {"steps": 3, "rows_per_step": 128},
        "training": {"learning_rate": 5e-4, "global_batch_size": 16},
        "stop": {"rounds": 8},
    },
)
SIZES = {"tiny": TINY, "small": SMALL}


def plain(size: Size) -> Size:
    """The target knows a quarter of everything, and sources propose existing domains."""
    return size


def uneven(size: Size) -> Size:
    """The target knows all main domains except the first well; in that one, source 0's, it knows a tenth."""
    world = replace(size.world, target_homes=size.world.branching[0] - 1, target_share=0.1)
    return replace(size, world=world, target_teaching=size.source_teaching)


def inventive(size: Size) -> Size:
    """Each source invents a domain below every node, in addition to the existing ones."""
    return replace(size, world=replace(size.world, num_false_names=1))


KINDS: dict[str, Callable[[Size], Size]] = {"plain": plain, "uneven": uneven, "inventive": inventive}
