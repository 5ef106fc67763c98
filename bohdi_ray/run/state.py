"""RUN/progress.json: what the driver knows of a run and journal and checkpoints do not tell.

Times, what the trainer reported, what remote sources cost. Nothing that decides what is harvested or trained: a run
whose file is old or missing goes on all the same, with poorer figures. Written by the driver at every boundary.
"""

from __future__ import annotations

import logging

import msgspec

from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.errors import RunDirError
from bohdi_ray.run.run_dir import RunDir

log = logging.getLogger(__name__)
PROGRESS = "progress.json"


class TrainedRound(msgspec.Struct):
    """What came of one round's training."""

    training_loss: float | None = None
    heldout_loss: float | None = None
    seconds: float = 0.0
    rejected_rows: dict[str, int] = {}  # without weight, by reason


class DriverState(msgspec.Struct):
    """All of it, over all drivers the run has had."""

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
    engines: dict[str, EngineStats] = {}  # by replica, with the driver's number before it

    @property
    def num_trained(self) -> int:
        """Rounds whose training the driver has taken in."""
        return len(self.trained)


def write_state(run: RunDir, state: DriverState) -> None:
    """Replaces the file in one go."""
    run.write_bytes(PROGRESS, msgspec.json.encode(state))


def read_state(run: RunDir, num_committed: int) -> DriverState:
    """What the last driver wrote; a new state, with a warning, if that cannot be read.

    What it knew of the training of rounds from `num_committed` on is left out: their weights are not there.
    """
    try:
        state = msgspec.json.decode(run.read_bytes(PROGRESS), type=DriverState)
        if list(state.trained) != list(range(len(state.trained))):
            raise ValueError("rounds are missing in it")
        if any(end < start for spans in state.spans.values() for start, end in spans):
            raise ValueError("phases end in it before they begin")
    except FileNotFoundError:
        return DriverState()
    except (ValueError, OSError, RecursionError, RunDirError) as error:  # msgspec's errors are ValueErrors
        log.warning("%s cannot be read, so times and costs so far are lost: %s", run.path(PROGRESS), error)
        return DriverState()
    trained = {round: known for round, known in state.trained.items() if round < num_committed}
    return msgspec.structs.replace(state, trained=trained)
