"""RUN/progress.json: what the driver knows of a run and journal and checkpoints do not tell.

Times, what the trainer reported, what remote sources cost. Nothing that decides what is harvested or trained: a run
whose file is old or missing goes on all the same, with poorer figures. Written by the driver at every boundary.
"""

from __future__ import annotations

import msgspec

from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.storage.run_dir import RunDir

PROGRESS = "progress.json"


class TrainedRound(msgspec.Struct):
    """What came of one round's training."""

    training_loss: float | None = None
    heldout_loss: float | None = None
    seconds: float = 0.0


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
    engines: dict[str, EngineStats] = {}  # by replica, with the driver's number before it

    @property
    def num_trained(self) -> int:
        """Rounds whose training the driver has taken in."""
        return len(self.trained)


def write_state(run: RunDir, state: DriverState) -> None:
    """Replaces the file in one go."""
    run.write_bytes(PROGRESS, msgspec.json.encode(state))


def read_state(run: RunDir) -> DriverState:
    """What the last driver wrote; a new state if there is none that can be read."""
    if not run.exists(PROGRESS):
        return DriverState()
    try:
        state = msgspec.json.decode(run.read_bytes(PROGRESS), type=DriverState)
    except (msgspec.MsgspecError, OSError):
        return DriverState()
    return state if list(state.trained) == list(range(len(state.trained))) else DriverState()
