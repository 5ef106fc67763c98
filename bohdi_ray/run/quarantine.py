"""Stores requests that kill engines, with everything needed to reproduce them: one Parquet part each below
RUN/quarantine.

Written by harvest tasks, read by people; nothing in a run reads them again. A part's name follows from the request's
id, so a task that runs again writes the same part, and no text of a model gets into it but as a digest.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bohdi_ray.config import FusionConfig
from bohdi_ray.records import MAX_STEPS, EngineRequest, GenerationRequest, pack_ticket_id
from bohdi_ray.run.lease import Claim
from bohdi_ray.run.run_dir import QUARANTINE, RunDir, weights_dir

DEATH = pa.struct(
    [
        pa.field("replica_id", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("at", pa.float64(), nullable=False),  # Unix time, s
        pa.field("alone", pa.bool_(), nullable=False),  # no other request was in the engine
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("ticket_id", pa.string()),  # null for a request for names, as round and step
        pa.field("round", pa.int32()),
        pa.field("step", pa.int32()),
        pa.field("role", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("model_path", pa.string(), nullable=False),  # of the target: where its weights lie
        pa.field("model_revision", pa.string()),
        pa.field("model_settings", pa.string(), nullable=False),  # its section of the configuration, JSON
        pa.field("weights_version", pa.int32(), nullable=False),
        pa.field("system_prompt", pa.string()),
        pa.field("prompt", pa.string(), nullable=False),  # the user turn, before the engine's chat template
        pa.field("scored_answer", pa.string()),  # a request to score this answer, not to generate one
        pa.field("temperature", pa.float64()),
        pa.field("top_p", pa.float64()),
        pa.field("max_tokens", pa.int64()),
        pa.field("seed", pa.int64()),
        pa.field("choices", pa.list_(pa.string())),
        pa.field("regex", pa.string()),
        pa.field("deaths", pa.list_(DEATH), nullable=False),
        pa.field("quarantined_at", pa.float64(), nullable=False),  # Unix time, s
    ],
    metadata={"bohdi_ray.schema": "quarantine-1"},
)


@dataclass(frozen=True, slots=True)
class Death:
    """An engine failed while it had a request."""

    replica_id: str
    error: str
    at: float  # Unix time, s
    alone: bool  # no other request was in it


@dataclass(frozen=True, slots=True)
class Case:
    """What a harvest task knows about a request that kills engines."""

    request: EngineRequest
    model: str
    weights_version: int
    deaths: tuple[Death, ...]


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The quarantine of one driver's tasks."""

    run: RunDir
    claim: Claim | None
    models: Mapping[str, Mapping[str, Any]]  # sections of the configuration by model name, plain JSON
    target: str

    @classmethod
    def of(cls, config: FusionConfig, run: RunDir, claim: Claim | None) -> Quarantine:
        models = {model.name: model.model_dump(mode="json") for model in (*config.sources, config.target)}
        return cls(run, claim, models, config.target.name)

    def write(self, case: Case) -> str:
        """Stores the case; returns its part's name. Raises RunDirError if another driver owns the run now."""
        name = part_name(case.request.request_id)
        table = pa.Table.from_pylist([_harmless(self._row(case))], schema=SCHEMA)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        if self.claim is not None:
            self.claim.check()
        self.run.write_bytes(f"{QUARANTINE}/{name}", sink.getvalue())
        return name

    def _row(self, case: Case) -> dict[str, Any]:
        request, settings = case.request, self.models[case.model]
        ticket_id = _ticket_of(request.request_id)
        packed = None if ticket_id is None else pack_ticket_id(ticket_id)
        weights = f"{self.run.location}/{weights_dir(case.weights_version)}"
        row: dict[str, Any] = {
            "run": self.run.location,
            "request_id": request.request_id,
            "ticket_id": ticket_id,
            "round": None if packed is None else packed >> 40,
            "step": None if packed is None else packed >> 24 & MAX_STEPS - 1,
            "role": request.role,
            "model": case.model,
            "model_path": weights if case.model == self.target else settings["model"],
            "model_revision": settings.get("revision"),
            "model_settings": json.dumps(settings, sort_keys=True),
            "weights_version": case.weights_version,
            "system_prompt": settings["system_prompt"],
            "prompt": request.prompt,
            "deaths": [
                {"replica_id": d.replica_id, "error": d.error, "at": d.at, "alone": d.alone} for d in case.deaths
            ],
            "quarantined_at": time.time(),
        }
        if not isinstance(request, GenerationRequest):
            return row | {"scored_answer": request.answer}
        sampling = {name: getattr(request.sampling, name) for name in ("temperature", "top_p", "max_tokens", "seed")}
        choices = None if request.choices is None else list(request.choices)
        return row | sampling | {"choices": choices, "regex": request.regex}


def part_name(request_id: str) -> str:
    """The name of a request's part: the ticket's id, if it has one, and a digest of the request's id."""
    digest = hashlib.blake2b(request_id.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
    return f"part-{_ticket_of(request_id) or 'sprout'}-{digest}.parquet"


def _ticket_of(request_id: str) -> str | None:
    """The ticket of the request; None for a request for names."""
    ticket_id = request_id.partition("/")[0]
    try:
        pack_ticket_id(ticket_id)
    except ValueError:
        return None
    return ticket_id


def _harmless(value: Any) -> Any:
    """The text with characters that UTF-8 cannot encode, such as lone surrogates, escaped, so that the rest can be
    stored."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _harmless(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_harmless(item) for item in value]
    return value
