"""Trackers: further destinations for the figures of a run besides metrics.jsonl: TensorBoard, Weights & Biases, MLflow.

`Metrics` owns one `Trackers`. Each tracker has a thread of its own behind a bounded queue, so that one that fails,
hangs or has no network never ends or slows a run: one warning says so, and the run continues without it. A tracker
gets the run's figures and its configuration (which holds no secrets, only references to them), and nothing else.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.addresses import HIDDEN, without_secrets
from bohdi_ray.config.sections import ObserveConfig
from bohdi_ray.errors import ConfigError
from bohdi_ray.languages.terminal_text import one_line
from bohdi_ray.run.run_dir import RunDir

MAX_WAITING = 10_000  # records a tracker may be behind
CLOSE_S = 30.0  # for all trackers together, at a run's end
# The package that is imported, what pip installs, and what says where its server is and who asks.
_PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboard", ()),
    "wandb": ("wandb", "wandb", ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")),
    "mlflow": ("mlflow", "mlflow-skinny", ("MLFLOW_TRACKING_URI",)),
}
_SECRETS = ("WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")
_FLUSH = object()


class Tracker(Protocol):
    """One tracker's run. All calls come from one thread; an exception ends the tracker, not the run."""

    def add(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        """Scalars by tag (`training/loss`) at `step`, taken at `time_s` (Unix time, s)."""
        ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Trackers:
    """Passes scalars to every tracker and warns about one that gave up. No method waits for a tracker, except
    `close`."""

    def __init__(self, makers: Mapping[str, Callable[[], Tracker]], warn: Callable[[str], None]):
        self._warn = warn
        self._workers = [_Worker(name, make) for name, make in makers.items()]

    def add(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        for worker in self._workers:
            worker.put((step, time_s, dict(values)))
        self._warn_of_faults()

    def flush(self) -> None:
        for worker in self._workers:
            worker.put(_FLUSH)
        self._warn_of_faults()

    def close(self) -> None:
        """Gives the trackers `CLOSE_S` in total to send the rest."""
        deadline = time.monotonic() + CLOSE_S
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        self._warn_of_faults()

    def _warn_of_faults(self) -> None:
        for worker in self._workers:
            if worker.fault is not None and not worker.is_warned_of:
                worker.is_warned_of = True
                self._warn(
                    f"the tracker {worker.name} gave up ({worker.fault}); the run continues without it, and every "
                    "figure is in metrics.jsonl"
                )


class _Worker:
    """One tracker's thread. The thread is a daemon: a tracker that hangs does not keep the process."""

    def __init__(self, name: str, make: Callable[[], Tracker]):
        self.name = name
        self.fault: str | None = None
        self.is_warned_of = False
        self._queue: queue.Queue[Any] = queue.Queue(MAX_WAITING)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(make,), name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def put(self, item: Any) -> None:
        if self.fault is not None:
            return
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self.fault = f"it is {MAX_WAITING} records behind"

    def end(self) -> None:
        self._ends.set()
        self.put(None)  # wakes it; a queue that is full has something to wake it with

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)
        if self._thread.is_alive() and self.fault is None:
            self.fault = f"it had not sent everything {CLOSE_S:.0f} s after the run's end"

    def _run(self, make: Callable[[], Tracker]) -> None:
        try:
            tracker = make()
            try:
                while self.fault is None and (item := self._next()) is not None:
                    if item is _FLUSH:
                        tracker.flush()
                    else:
                        tracker.add(*item)
            finally:
                tracker.close()
        except (Exception, SystemExit) as error:  # a client library may raise anything
            self.fault = self.fault or _words(error)

    def _next(self) -> Any:
        if self._ends.is_set() and self._queue.empty():
            return None
        return self._queue.get()


def _words(error: BaseException) -> str:
    """The error on one line, without keys, because a client library may include its address and user."""
    text = f"{type(error).__name__}: {error}"
    for variable in _SECRETS:
        if value := os.environ.get(variable):
            text = text.replace(value, HIDDEN)
    return one_line(without_secrets(text), 400)


def wanted(observe: ObserveConfig) -> tuple[str, ...]:
    """Names of the trackers a configuration asks for, each once."""
    return tuple(dict.fromkeys([*(["tensorboard"] if observe.tensorboard else []), *observe.trackers]))


@dataclass(frozen=True, slots=True)
class Target:
    """The run and folder for which a tracker is created."""

    run: RunDir
    config: dict[str, Any]  # the run's configuration, plain; secrets are references
    project: str
    offline: bool

    @property
    def name(self) -> str:
        """The name of the tracker's run: the last part of the run directory."""
        return self.run.location.rstrip("/").rpartition("/")[2]


def open_trackers(config: FusionConfig, run: RunDir, warn: Callable[[str], None]) -> Trackers | None:
    """The trackers of a run; None if none is configured. `warn` shows a warning to the person who watches."""
    observe = config.observe
    target = Target(run, config.model_dump(mode="json"), observe.project, observe.trackers_offline)
    names = wanted(observe)
    return Trackers({name: partial(_make, name, target) for name in names}, warn) if names else None


def _make(name: str, target: Target) -> Tracker:
    # The client libraries are large: each is imported by the thread that needs it.
    if name == "wandb":
        from bohdi_ray.observe.trackers.wandb_tracker import WandbTracker

        return WandbTracker(target)
    if name == "mlflow":
        from bohdi_ray.observe.trackers.mlflow_tracker import MlflowTracker

        return MlflowTracker(target)
    from bohdi_ray.observe.trackers.tensorboard_tracker import TensorBoardTracker

    return TensorBoardTracker(target.run)


def tracker_errors(observe: ObserveConfig) -> list[ConfigError]:
    """Why a requested tracker cannot work in this process: a missing package, or an unknown destination."""
    errors = []
    for name in wanted(observe):
        module, package, variables = _PACKAGES[name]
        if importlib.util.find_spec(module) is None:
            remedy = f"pip install {package}, or leave it out."
            errors.append(ConfigError("observe.trackers", name, f"the package {package} is not installed", remedy))
        elif variables and not observe.trackers_offline and not _is_reachable(name, variables):
            rule = f"the destination of the metrics is not set: {' or '.join(variables)} is not set"
            remedy = "Set it where the driver runs, or set observe.trackers_offline: true, which keeps them in the run."
            errors.append(ConfigError("observe.trackers", name, rule, remedy))
    return errors


def _is_reachable(name: str, variables: tuple[str, ...]) -> bool:
    """Whether the client library would know the address of its server. Uses no network."""
    if any(os.environ.get(variable) for variable in variables):
        return True
    # `wandb login` leaves the key in a netrc file; WANDB_MODE=offline needs none.
    netrc = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    return name == "wandb" and (netrc.is_file() or os.environ.get("WANDB_MODE") in ("offline", "disabled"))
