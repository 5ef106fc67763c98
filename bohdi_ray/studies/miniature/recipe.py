"""The configuration of a miniature's fusion: OUT/fusion.yaml and OUT/prompts, for `bohdi fuse` as for anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bohdi_ray.engines.prompts import TemplateSet, load_templates
from bohdi_ray.studies.miniature.curriculum import NUM_PROPOSALS, TEMPLATES
from bohdi_ray.studies.miniature.models import WINDOW
from bohdi_ray.studies.miniature.sizes import Size
from bohdi_ray.studies.miniature.world import STYLES

CONFIG, PROMPTS, MODELS = "fusion.yaml", "prompts", "models"
HEAD = """\
# Fuse the miniature beside this file, with real engines and real training, on a machine without a GPU:
#   bohdi miniature fuse OUT      (this, and then what the target knows before and after)
#   bohdi fuse OUT/fusion.yaml    (this alone)
"""


def write_templates(out: Path) -> TemplateSet:
    """Writes the role prompts and returns the template set in use."""
    folder = out / PROMPTS
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in TEMPLATES.items():
        (folder / f"{name}.jinja").write_text(text, encoding="utf-8")
    return load_templates(str(folder))


def write_config(size: Size, seed: int, out: Path) -> None:
    """Writes OUT/fusion.yaml."""
    text = yaml.safe_dump(_settings(size, seed, out), sort_keys=False, allow_unicode=True, width=110)
    (out / CONFIG).write_text(HEAD + text, encoding="utf-8")


def _settings(size: Size, seed: int, out: Path) -> dict[str, Any]:
    engine = {
        "max_model_len": WINDOW,
        "max_num_seqs": 32,
        "enforce_eager": True,
        "gpu_memory_utilization": 0.05,
        "kv_cache_memory_bytes": 64_000_000,
    }

    # Facts are answered greedily; variety comes from asking.
    sampling = {
        "sprout": {"max_tokens": 24},
        "question": {"max_tokens": 64},
        "answer": {"max_tokens": 64, "temperature": 0.0},
    }
    resources = {"num_cpus": 0.25}

    def model(name: str) -> dict[str, Any]:
        # The same objects each time, so that YAML shows them once.
        one = {"name": name, "model": f"./{MODELS}/{name}", "dtype": "float32", "temperature": 1.0}
        return {**one, "sampling": sampling, "engine": engine, "resources": resources}

    settings: dict[str, Any] = {
        "run_dir": str(out.resolve() / "runs" / "{time}"),
        "seed": seed,
        "sources": [model(spec.name) for spec in size.sources],
        "target": model(size.models[-1].name),
        "tree": {"depth": len(size.world.level_names), "level_names": list(size.world.level_names)},
        # Models this small can only name what they were taught, whatever letters they are offered.
        "sprout": {"proposals_per_source": NUM_PROPOSALS, "max_failures": 2, "vary_initials": False},
        "harvest": {"styles": list(STYLES), "prompts": f"./{PROMPTS}", "max_tasks_in_flight": 4},
        # They were not taught to name the best of several answers, but a likelihood every model has.
        "judge": {"kind": "consensus"},
        "training": {
            "micro_batch_size": 16,
            "max_length": 256,
            "dtype": "float32",
            "packing": False,
            "num_workers": 1,
            "resources_per_worker": {"CPU": 0.5},
            "deepspeed": {"zero_optimization": {"stage": 1}},
            "keep_checkpoints": 1000,  # all of them, which are small, for what the target knew after each round
        },
    }
    for section, values in size.fusion.items():
        settings[section] = settings.get(section, {}) | values
    return settings
