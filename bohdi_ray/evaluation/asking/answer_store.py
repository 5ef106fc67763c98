"""Keeps the answers that engines gave in an evaluation, so that none is asked for twice: JSON Lines in a folder of one
model's weights.

A key is a digest of the whole request, and the folder's name one of the model and its weights (fingerprint.py); so an
answer is found again by whichever evaluation asks the same. Local files get every answer at once: what was answered
before a kill is there afterwards. On an object store, whose files cannot grow, parts are written every few seconds.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Mapping
from typing import IO, Any

from bohdi_ray.run.filesystem import Place, storage_errors

log = logging.getLogger(__name__)

SUFFIX = ".jsonl"
PART_EVERY_S = 5.0

Answer = Any  # plain JSON, as `asker.py` makes it


class AnswerStore:
    """The answers of one model's weights. One process may write while others do: each writes files of its own."""

    def __init__(self, folder: Place):
        self._folder = folder
        self._writer = uuid.uuid4().hex[:12]
        self._file: IO[bytes] | None = None
        self._unwritten: list[bytes] = []
        self._num_parts, self._written_at = 0, time.monotonic()
        self._answers = _read(folder)

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def __getitem__(self, key: str) -> Answer:
        return self._answers[key]

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, answers: Mapping[str, Answer]) -> None:
        """Keeps these, by key."""
        if not answers:
            return
        self._answers.update(answers)
        self._unwritten += [json.dumps([key, answer]).encode() + b"\n" for key, answer in answers.items()]
        if self._folder.is_local or time.monotonic() - self._written_at > PART_EVERY_S:
            self.write()

    def write(self) -> None:
        """Writes what is not written yet."""
        lines = b"".join(self._unwritten)
        self._written_at = time.monotonic()
        if not lines:
            return
        if not self._folder.is_local:
            self._folder.child(f"{self._writer}-{self._num_parts:06d}{SUFFIX}").write_bytes(lines)
            self._num_parts += 1
            self._unwritten = []
            return
        with storage_errors(self._folder.shown, "write"):
            if self._file is None:
                os.makedirs(self._folder.path, exist_ok=True)
                self._file = open(f"{self._folder.path}/{self._writer}{SUFFIX}", "ab")  # noqa: SIM115
            self._file.write(lines)
            self._file.flush()
        self._unwritten = []

    def close(self) -> None:
        """Writes what is not written yet, and ends."""
        self.write()
        if self._file is not None:
            self._file.close()
            self._file = None


def _read(folder: Place) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    if not folder.exists():
        return found
    for name in folder.names():
        if not name.endswith(SUFFIX):
            continue
        for line in folder.child(name).read_bytes().split(b"\n"):
            try:
                key, answer = json.loads(line)
            except (ValueError, TypeError):
                if line:
                    log.info("%s ends in the middle of an answer, which is asked for again", name)
                continue
            found[key] = answer
    return found
