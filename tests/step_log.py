"""A trainer's own record: one line per learner started, step taken and folder written, in a file beside the run.

Evidence for "no row is trained twice in the lineage of checkpoints", which `chaos/accounts.py` follows.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path


def log_of(run_dir: str | os.PathLike[str]) -> Path:
    """Where the trainer of this run writes its lines: beside the run, not in it."""
    return Path(f"{run_dir}-steps.jsonl")


class StepLog:
    """The record of one learner, that is of one start of one rank."""

    def __init__(self, run_dir: str | os.PathLike[str], rank: int, weights: str, optimizer: str | None):
        """`weights`, `optimizer`: the folders that it starts from."""
        self._path, self._rank, self._learner = log_of(run_dir), rank, uuid.uuid4().hex
        self._write("start", weights=weights, optimizer=optimizer)

    def stepped(self, step: int, ids: Sequence[str], world_size: int = 1) -> None:
        """`ids`: of this rank's share of a global step, in which every `world_size`-th row is this rank's."""
        self._write("step", rows=[(step, self._rank + i * world_size, one) for i, one in enumerate(ids)])

    def wrote(self, kind: str, folder: str) -> None:
        """`kind`: weights or optimizer; the folder of that name in a checkpoint."""
        self._write(kind, folder=folder)

    def _write(self, event: str, **fields: object) -> None:
        line = json.dumps({"event": event, "learner": self._learner, "rank": self._rank, **fields}) + "\n"
        # One write in append mode: a killed process leaves a whole line or none.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
