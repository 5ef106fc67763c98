"""Observers of a run. The driver reports every event once; an observer cannot change the run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from typing import Any, Protocol

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import RunDirError
from bohdi_ray.names import run_name
from bohdi_ray.observe.console.observer import ConsoleObserver
from bohdi_ray.observe.events import Event, Notice
from bohdi_ray.observe.recorder import MetricsRecorder
from bohdi_ray.observe.run_metrics import RunMetrics
from bohdi_ray.run.run_dir import RunDir

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Called on the driver's event loop; it must not wait."""

    def tell(self, event: Event) -> None:
        """Handles the event if it knows its type."""
        ...

    def close(self) -> None:
        """Releases its resources. Called once."""
        ...


class Observers:
    """The observers of one driver. Close it.

    An observer that raises is closed and removed with one warning, and the run continues. A RunDirError is different:
    it means that another driver owns the run, or that its storage failed (a full disk under metrics.jsonl). It ends the
    run, as it would anywhere else.
    """

    def __init__(self, observers: Iterable[Observer]):
        self._observers = list(observers)

    def tell(self, event: Event) -> None:
        """Every observer gets the event, in the order they were given. Raises RunDirError."""
        for observer in list(self._observers):
            try:
                observer.tell(event)
            except RunDirError:
                raise
            except Exception as error:
                self._observers.remove(observer)
                with contextlib.suppress(Exception):
                    observer.close()
                _warn_of(observer, error)

    def notify(self, kind: str, text: str, **fields: Any) -> None:
        """Reports something that a person should not miss."""
        self.tell(Notice(kind, text, fields))

    def close(self) -> None:
        """Closes all, the last one first, whatever one of them raises. Raises RunDirError."""
        with contextlib.ExitStack() as closing:
            for observer in self._observers:
                closing.callback(_close, observer)
        self._observers = []


def _close(observer: Observer) -> None:
    try:
        observer.close()
    except RunDirError:
        raise
    except Exception as error:
        _warn_of(observer, error)


def _warn_of(observer: Observer, error: Exception) -> None:
    name = type(observer).__name__
    log.warning("%s failed; the run continues without it", name, exc_info=error)


def all_observers(config: FusionConfig, run: RunDir) -> list[Observer]:
    """All observers of a run: the console, metrics.jsonl with the trackers, and Prometheus."""
    return [
        ConsoleObserver(config.observe.console),
        MetricsRecorder.of(config, run),
        RunMetrics(run_name(run.location)),
    ]
