"""What may differ between the configuration a run began with and the one it continues with. Pure.

What was harvested and trained so far follows from most settings; changing one of those half-way would make a run that
no configuration describes. Where to run, how long and how much to keep may change at any time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from bohdi_ray.config import FusionConfig

HARMLESS = (
    "preset",  # its values are beside it
    "run_dir",
    "nodes",
    "placement",
    "stop.*",
    "deadlines.*",
    "observe.*",
    "evaluate.*",
    "questions.epochs",
    "harvest.max_tasks_in_flight",
    "harvest.tickets_per_task",
    "harvest.min_sources",
    "harvest.shortage",
    "training.micro_batch_size",
    "training.packing",
    "training.gradient_checkpointing",
    "training.attn_implementation",
    "training.num_workers",  # with the optimizer's state only for as many workers: driver/resume.py checks
    "training.resources_per_worker.*",
    "training.label_selector.*",
    "training.save_optimizer_every",
    "training.keep_checkpoints",
    "training.max_failures",
    "training.max_length",  # what is trained already stays; rows that were too long may be trained now
    "training.max_rejected_fraction",
    "training.heldout_rows_per_round",
    "weights.*",
    "*.resources.*",
    "*.replicas",
    "*.replicas.*",
    "*.engine.tensor_parallel_size",
    "*.engine.pipeline_parallel_size",
    "*.engine.max_num_seqs",
    "*.engine.gpu_memory_utilization",
    "*.engine.kv_cache_memory_bytes",
    "*.engine.enforce_eager",
    "*.engine.load_format",
    "*.base_url",
    "*.api_key",
    "*.max_in_flight",
    "*.max_retries",
    "*.timeout_s",
    "*.price_per_million_*",
)
_ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that differs. `field` names models by name: `sources.phi-4.temperature`."""

    field: str
    before: Any
    after: Any

    @property
    def harmless(self) -> bool:
        """Whether a run may be resumed with this change."""
        if self.field == "training.reset_optimizer":
            return bool(self.after)  # the other way round there is no optimizer state to continue with
        field = re.sub(r"^training\.stages\.\d+\.", "training.", self.field)
        return any(fnmatchcase(field, pattern) for pattern in HARMLESS)

    def __str__(self) -> str:
        return f"{self.field}: {self.before} -> {self.after}"


def changes(before: FusionConfig, after: FusionConfig) -> list[Change]:
    """Every setting that differs, by field."""
    old, new = _flat(before), _flat(after)
    fields = sorted(old.keys() | new.keys())
    return [
        Change(field, old.get(field, _ABSENT), new.get(field, _ABSENT))
        for field in fields
        if old.get(field, _ABSENT) != new.get(field, _ABSENT)
    ]


def _flat(config: FusionConfig) -> dict[str, Any]:
    plain = config.model_dump(mode="json")
    plain["sources"] = {source["name"]: source for source in plain["sources"]}
    plain["training"]["stages"] = {str(number): stage for number, stage in enumerate(plain["training"]["stages"])}
    found: dict[str, Any] = {"sources": ", ".join(plain["sources"])}  # their order is the order of proposals
    pending = [("", plain)]
    while pending:
        prefix, section = pending.pop()
        for key, value in section.items():
            if isinstance(value, dict):
                pending.append((f"{prefix}{key}.", value))
            else:
                found[f"{prefix}{key}"] = value
    return found
