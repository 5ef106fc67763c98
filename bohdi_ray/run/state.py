"""RUN/progress.json: facts about a run that the driver knows and that are neither in the journal nor in the
checkpoints.

It holds times, the trainer's reports and the cost of remote sources. None of it decides what is harvested or trained:
if the file is old or missing, the run still continues, with less complete figures. Written by the driver at every
boundary.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from bohdi_ray.config import FusionConfig
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.errors import RunDirError
from bohdi_ray.run.run_dir import RunDir

log = logging.getLogger(__name__)
PROGRESS = "progress.json"


class TrainedRound(msgspec.Struct):
    """The result of one round's training."""

    training_loss: float | None = None
    heldout_loss: float | None = None
    seconds: float = 0.0
    rejected_rows: dict[str, int] = {}  # without weight, by reason


class DriverState(msgspec.Struct):
    """The whole content, over all drivers of the run."""

    wall_time_s: float = 0.0  # with a driver; the time in between does not count
    num_drivers: int = 0
    trained: dict[int, TrainedRound] = {}  # by round, in order, without gaps
    harvest_s: dict[int, float] = {}  # by round
    spans: dict[str, list[tuple[float, float]]] = {}  # by phase, on the clock of `wall_time_s`
    best_version: int = 0
    best_rows: dict[str, tuple[float, int]] = {}  # its held-out (loss, tokens) by sample id
    rounds_without_gain: int = 0
    last_rows: dict[str, tuple[float, int]] = {}  # the newest trained version's
    behind_best: float = 0.0  # how much higher its loss is than the best version's
    evaluated: dict[int, float] = {}  # mean score over the tasks of `evaluate`, by version
    evaluated_on: str = ""  # what was asked for these: scores of other tasks cannot be compared
    engines: dict[str, EngineStats] = {}  # by replica, with the driver's number before it

    @property
    def num_trained(self) -> int:
        """Number of rounds whose training the driver has recorded."""
        return len(self.trained)


def best_scored(config: FusionConfig, evaluated: Mapping[int, float], newest: int) -> int | None:
    """The version with the highest mean score in the stage of version `newest`, the earliest of equals, where
    `evaluate.chooses_best`; None elsewhere, and while none is evaluated."""
    if not config.evaluate.chooses_best:
        return None
    versions = config.training.in_newest_stage(evaluated, newest)
    return max(versions, key=lambda version: (evaluated[version], -version), default=None)


def write_state(run: RunDir, state: DriverState) -> None:
    """Replaces the file atomically."""
    run.write_bytes(PROGRESS, msgspec.json.encode(state))


def read_state(run: RunDir, num_committed: int) -> DriverState:
    """The state that the last driver wrote; if it cannot be read, a new state, with a warning.

    Its entries about the training of rounds from `num_committed` on are dropped, because their weights do not exist.
    """
    try:
        state = msgspec.json.decode(run.read_bytes(PROGRESS), type=DriverState)
        if list(state.trained) != list(range(len(state.trained))):
            raise ValueError("its list of trained rounds has a gap")
        if any(end < start for spans in state.spans.values() for start, end in spans):
            raise ValueError("it has phases that end before they begin")
    except FileNotFoundError:
        return DriverState()
    except (ValueError, OSError, RecursionError, RunDirError) as error:  # msgspec's errors are ValueErrors
        log.warning("%s cannot be read, so times and costs so far are lost: %s", run.path(PROGRESS), error)
        return DriverState()
    trained = {round: known for round, known in state.trained.items() if round < num_committed}
    evaluated = {version: mean for version, mean in state.evaluated.items() if version <= num_committed}
    return msgspec.structs.replace(state, trained=trained, evaluated=evaluated)
