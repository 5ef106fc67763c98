"""Where the records of a run go: always to metrics.jsonl, optionally to trackers (trackers/). For Prometheus see
run_metrics.py.

Used by `MetricsRecorder` (recorder.py). No text from models is logged.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from bohdi_ray.observe.trackers.opening import Trackers
from bohdi_ray.run.filesystem import storage_errors
from bohdi_ray.run.run_dir import METRICS, RunDir

LABELS = ("model", "role", "phase", "reason")  # the fields that become part of a scalar's name
_REWRITE_S = 30.0


class Metrics:
    """Takes records and distributes them. Close it, or use it as a context manager."""

    def __init__(self, run: RunDir, trackers: Trackers | None = None, clock: Callable[[], float] = time.time):
        self._clock = clock
        self._lines = _LocalLines(run) if run.is_local else _RemoteLines(run, clock)
        self._trackers = trackers
        self._counts: dict[str, int] = {}

    def log(self, kind: str, **fields: Any) -> None:
        """Write one record, for example `log("training", round=3, step=12, loss=1.9)`.

        Values are plain JSON or numpy scalars; what is not finite becomes null. Numbers also become a
        scalar of the trackers over `step`, else `round`, else the count of such records.
        """
        record = {"time": self._clock(), "kind": kind, **{name: plain(value) for name, value in fields.items()}}
        self._lines.append(json.dumps(record, allow_nan=False))
        numbers = {
            name: float(value)
            for name, value in record.items()
            if name not in {"time", "round", "step"} and isinstance(value, int | float) and not isinstance(value, bool)
        }
        labels = {name: str(record.get(name, "")) for name in LABELS}
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if self._trackers is not None and numbers:
            step = record.get("step", record.get("round", self._counts[kind]))
            label = "".join(f"/{labels[name]}" for name in LABELS if labels[name])
            self._trackers.add(int(step), record["time"], {f"{kind}/{name}{label}": v for name, v in numbers.items()})

    def flush(self) -> None:
        """Make everything logged so far readable by others."""
        self._lines.flush()
        if self._trackers is not None:
            self._trackers.flush()

    def close(self) -> None:
        self._lines.close()
        if self._trackers is not None:
            self._trackers.close()

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def plain(value: Any) -> Any:
    """A value as plain JSON: numpy scalars and arrays converted, NaN and infinities as None, anything else as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


class _LocalLines:
    """Appends lines; each is in the file when `append` returns."""

    def __init__(self, run: RunDir):
        path = Path(run.path(METRICS))
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        self._file: IO[str] = path.open("a", encoding="utf-8", buffering=1)
        if torn:  # a crash cut the last line: end it, so that the next one is whole
            self._file.write("\n")

    def append(self, line: str) -> None:
        with storage_errors(self._file.name, "write"):
            self._file.write(line + "\n")

    def flush(self) -> None:
        with storage_errors(self._file.name, "write"):
            self._file.flush()

    def close(self) -> None:
        with storage_errors(self._file.name, "write"):
            self._file.close()


class _RemoteLines:
    """Rewrites the whole file, because object stores cannot append: at least every half minute, and when flushed."""

    def __init__(self, run: RunDir, clock: Callable[[], float]):
        self._run, self._clock, self._written_at = run, clock, clock()
        self._lines = run.read_bytes(METRICS).decode().splitlines() if run.exists(METRICS) else []

    def append(self, line: str) -> None:
        self._lines.append(line)
        if self._clock() - self._written_at >= _REWRITE_S:
            self.flush()

    def flush(self) -> None:
        self._run.write_bytes(METRICS, "".join(line + "\n" for line in self._lines).encode())
        self._written_at = self._clock()

    def close(self) -> None:
        self.flush()
