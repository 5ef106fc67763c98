"""TensorBoard: event files in RUN/tensorboard. Every driver adds a file; TensorBoard shows them as one run."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from bohdi_ray.observe.trackers.files import TrackerFiles
from bohdi_ray.run.run_dir import RunDir

FOLDER = "tensorboard"


class TensorBoardTracker:
    """A `Tracker`."""

    def __init__(self, run: RunDir):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._files = TrackerFiles(run, FOLDER)
        self._writer = EventFileWriter(str(self._files.folder), filename_suffix=f".{socket.gethostname()}")

    def add(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._writer.add_event(Event(wall_time=time_s, step=step, summary=Summary(value=scalars)))

    def flush(self) -> None:
        self._writer.flush()
        self._files.copy()

    def close(self) -> None:
        try:
            self._writer.close()
        finally:
            self._files.close()
