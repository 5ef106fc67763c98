"""MLflow: one run for all drivers of a fusion, at MLFLOW_TRACKING_URI, or offline in RUN/mlflow as plain files."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from bohdi_ray.observe.trackers.files import TrackerFiles, keep_id, known_id
from bohdi_ray.observe.trackers.opening import Target

FOLDER = "mlflow"
MAX_PARAMS, MAX_VALUE = 100, 6000  # of one request; characters of a value
_FORBIDDEN = re.compile(r"[^\w\-. /]", re.ASCII)  # in names of metrics and parameters


class MlflowTracker:
    """A `Tracker`. The run's first configuration becomes parameters, which MLflow never allows to change."""

    def __init__(self, target: Target):
        if target.offline:
            # The database that MLflow prefers offline is no plain file that an object store could keep.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient

        self._files = TrackerFiles(target.run, FOLDER)
        if target.offline:
            self._files.fetch()
        self._client = MlflowClient(tracking_uri=self._files.folder.as_uri() if target.offline else None)
        known = known_id(target.run, FOLDER)
        if known is None:
            self._run_id = self._begin(target)
            if target.offline:
                self._complete(self._run_id)
            keep_id(target.run, FOLDER, self._run_id)
        else:
            if target.offline:
                self._complete(known)
            self._run_id = known
            self._client.update_run(known, status="RUNNING")

    def _begin(self, target: Target) -> str:
        from mlflow.entities import Param

        experiment = self._client.get_experiment_by_name(target.project)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(target.project)
        run_id = str(self._client.create_run(experiment_id, run_name=target.name).info.run_id)
        params = [Param(_FORBIDDEN.sub("_", key), str(value)[:MAX_VALUE]) for key, value in _flat("", target.config)]
        for start in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(run_id, params=params[start : start + MAX_PARAMS])
        return run_id

    def _complete(self, run_id: str) -> None:
        """Recreates folders that MLflow requires even when empty: an object store does not keep those."""
        for folder in self._files.folder.glob(f"*/{run_id}"):
            for name in ("artifacts", "metrics", "params", "tags"):
                (folder / name).mkdir(exist_ok=True)
            (folder / "artifacts" / "about.txt").write_text("RUN/config.yaml of bohdi_ray says what this run is.\n")

    def add(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        at = int(time_s * 1000)
        metrics = [Metric(_FORBIDDEN.sub("_", tag), value, at, step) for tag, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def flush(self) -> None:
        self._files.copy()

    def close(self) -> None:
        try:
            self._client.set_terminated(self._run_id, end_time=int(time.time() * 1000))
        finally:
            self._files.close()


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Settings by dotted key; items of lists by index."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list) or not value:
        yield prefix, value
    for key, item in items:
        yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
