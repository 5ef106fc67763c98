"""What a command line asks of an evaluation. Light: a job is submitted where nothing else is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What a command line says."""

    names: tuple[str, ...]  # RUN, RUN@VERSION, MODEL
    tasks: tuple[str, ...]
    settings: tuple[str, ...] = ()  # KEY=VALUE of every model's section
    limit: int | None = None  # questions per task
    num_fewshot: int | None = None
    chat: bool = False  # apply the chat template
    system: str | None = None  # its system turn
    allow_code: bool = False
    replicas: int = 1
    address: str | None = None
    out: str | None = None
    metrics: Mapping[str, str] = field(default_factory=dict)  # the one that interference counts, by task
    against: str | None = None  # a subject with which interference is compared
    full: bool = False
