"""The trainer's folders: their content, when they count as committed, and where training may continue. No torch.

    checkpoints/base/       weights/ original/ probe.json layout.json COMMIT  version 0, written once
    checkpoints/round-<r>/  weights/ probe.json state.json COMMIT             version r + 1
                            metrics.json, what the trainer reported, complete after COMMIT
                            optimizer/ with a COMMIT of its own, where it was saved
    checkpoints/step-<s>/   weights/ optimizer/ state.json tally.json COMMIT  within a round, in front of global step s;
                            written when a node is about to be taken away, no version of the weights

`COMMIT` is written last and synced; a folder without it does not exist for anybody and may be overwritten. Written by
rank 0 of the train workers, read by the SampleQueue, the engines' owner and resuming workers. Nothing here deletes a
committed folder: retention is the driver's.

Folders are named by a path or an address (`config/addresses.py`). Large files are written into `scratch_of(folder)`,
which is the folder itself for a path; small ones (`write_state` and the like) go to the folder at once.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from bohdi_ray.config import TrainingConfig
from bohdi_ray.config.addresses import below
from bohdi_ray.errors import RunDirError
from bohdi_ray.run.filesystem import COMMIT, place_of, storage_errors, sync
from bohdi_ray.run.json_files import decoded, facts
from bohdi_ray.run.node_files import OPTIMIZER, drop_scratch, upload
from bohdi_ray.run.run_dir import BASE, ROUND_NAME, round_name

log = logging.getLogger(__name__)
REMEDY = "restore it from a copy, or remove its folder: training then continues from the checkpoint before that has an "
REMEDY += "optimizer state, or from version 0; or from the newest weights: bohdi resume RUN --reset-optimizer"
STEP_NAME = re.compile(r"step-(\d+)")
_FORGOTTEN = "FORGOTTEN"  # in the place of an optimizer state that was given up


@dataclass(frozen=True, slots=True)
class RoundState:
    """state.json: the state when a round, or a step within the round after it, was committed."""

    round: int  # the last one that is trained whole
    next_step: int  # global step that follows this round
    num_optimizer_steps: int  # taken in the stage so far; places the learning-rate schedule
    weights_version: int  # round + 1
    world_size: int
    has_optimizer: bool  # whether training can go on exactly from here
    steps_done: int = 0  # steps of round `round + 1` that this checkpoint has behind it


def round_dir(checkpoints_dir: str, round: int) -> str:
    """Folder of a round's checkpoint."""
    return below(checkpoints_dir, round_name(round))


def version_dir(checkpoints_dir: str, weights_version: int) -> str:
    """Folder that holds this version of the target: `base` for 0, else the one of the round that made it."""
    return below(checkpoints_dir, BASE) if weights_version == 0 else round_dir(checkpoints_dir, weights_version - 1)


def step_dir(checkpoints_dir: str, next_step: int) -> str:
    """Folder of a checkpoint within a round, with which training goes on at global step `next_step`."""
    return below(checkpoints_dir, f"step-{next_step}")


def is_committed(folder: str) -> bool:
    """Whether COMMIT is there."""
    return place_of(folder).child(COMMIT).exists()


def start_folder(folder: str) -> None:
    """Creates an empty folder in place of an uncommitted one."""
    assert not is_committed(folder), f"{folder} is committed and must not change"
    place = place_of(folder)
    place.delete()
    if place.is_local:
        with storage_errors(place.shown, "write"):
            os.makedirs(folder)
    drop_scratch(folder)


def commit_folder(folder: str) -> None:
    """Writes COMMIT last, after everything else in the folder has reached the disk or the object store."""
    place = place_of(folder)
    if place.is_local:
        everything = [os.path.join(parent, name) for parent, _, files in os.walk(folder) for name in (*files, "")]
        with storage_errors(place.shown, "write"), ThreadPoolExecutor(8) as pool:
            list(pool.map(open_to_umask, [path for path in everything if not path.endswith(os.sep)]))
            list(pool.map(sync, everything))
    upload(folder)
    place.commit()


def open_to_umask(path: str) -> None:
    """Gives a file that a library made readable for its owner alone the permissions of the umask."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if (wanted := mode | (0o666 & ~_umask())) != mode:
        os.chmod(path, wanted)


def _umask() -> int:
    # Asking the system for it means setting it, for all threads; the kernel also writes it down.
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next(int(line.split()[1], 8) for line in status if line.startswith("Umask:"))
    except (OSError, StopIteration):
        umask = os.umask(0o077)
        os.umask(umask)
        return umask


def write_text(path: str, text: str) -> None:
    """Writes and syncs one small file, replacing it atomically."""
    place_of(path).write_bytes(text.encode())


def optimizer_dir(folder: str) -> str:
    """Folder of a round's optimizer state. It has its own COMMIT, because it is written after the weights are
    published."""
    return below(folder, OPTIMIZER)


def forget_optimizer(checkpoints_dir: str) -> int | None:
    """Makes training continue from the newest committed weights with a new optimizer, whichever optimizer state exists;
    returns the round of those weights, None if there is none. Called by a driver, before any worker starts."""
    clear_steps(checkpoints_dir)
    committed = committed_rounds(checkpoints_dir)
    if not committed:
        return None
    folder = optimizer_dir(round_dir(checkpoints_dir, committed[-1].round))
    place_of(folder).delete()
    write_text(below(folder, _FORGOTTEN), "")
    commit_folder(folder)
    return committed[-1].round


def optimizer_to_load(folder: str, world_size: int) -> str | None:
    """The optimizer state of a committed round for this number of workers; None if a new optimizer is to start.

    Raises ValueError if it was saved by another number of workers: DeepSpeed partitions it by rank.
    """
    saved, state = optimizer_dir(folder), read_state(folder)
    if not state.has_optimizer or place_of(saved).child(_FORGOTTEN).exists():
        return None
    if state.world_size != world_size:
        raise ValueError(f"the optimizer state of round {state.round} was saved by {state.world_size} workers")
    return saved


def write_state(folder: str, state: RoundState) -> None:
    """Writes state.json of an uncommitted folder."""
    fields = asdict(state)
    del fields["has_optimizer"]  # told by optimizer/COMMIT
    write_text(below(folder, "state.json"), json.dumps(fields, indent=1))


def read_state(folder: str) -> RoundState:
    """Reads state.json of a committed folder. Raises RunDirError if it is missing or damaged."""
    where = below(folder, "state.json")
    try:
        fields = decoded(place_of(folder).child("state.json").read_bytes(), dict[str, int], where, REMEDY)
        return RoundState(**fields, has_optimizer=is_committed(optimizer_dir(folder)))
    except (FileNotFoundError, TypeError) as error:
        raise RunDirError(f"{where} is missing or of another version ({error}); {REMEDY}") from error


def write_tally(folder: str, tally: dict[str, Any]) -> None:
    """Writes the sums over a round's first steps, next to a checkpoint within the round."""
    write_text(below(folder, "tally.json"), json.dumps(tally))


def read_tally(folder: str) -> dict[str, Any]:
    """Reads what `write_tally` wrote."""
    return facts(place_of(folder).child("tally.json").read_bytes(), below(folder, "tally.json"), REMEDY)


def write_metrics(folder: str, metrics: dict[str, Any]) -> None:
    """Writes the metrics that the trainer reports for a committed round, to be read after a restart."""
    write_text(below(folder, "metrics.json"), json.dumps(metrics))


def read_metrics(folder: str) -> dict[str, Any]:
    """Reads what `write_metrics` wrote; {} if the trainer died before writing it or, with a warning, if it is
    damaged."""
    try:
        data = place_of(folder).child("metrics.json").read_bytes()
        return facts(data, below(folder, "metrics.json"), "the round's figures are lost, nothing else")
    except FileNotFoundError:
        return {}
    except RunDirError as error:
        log.warning("%s", error)
        return {}


def committed_rounds(checkpoints_dir: str) -> list[RoundState]:
    """All existing committed rounds, oldest first."""
    folders = [round_dir(checkpoints_dir, number) for number in place_of(checkpoints_dir).numbers(ROUND_NAME)]
    return [read_state(folder) for folder in folders if is_committed(folder)]


def committed_steps(checkpoints_dir: str) -> list[RoundState]:
    """All existing committed checkpoints within rounds, oldest first."""
    folders = [step_dir(checkpoints_dir, number) for number in place_of(checkpoints_dir).numbers(STEP_NAME)]
    return [read_state(folder) for folder in folders if is_committed(folder)]


def clear_superseded_steps(checkpoints_dir: str, optimizer_needed: bool) -> None:
    """Removes the checkpoints within rounds from which no restart would continue any more."""
    if not place_of(checkpoints_dir).numbers(STEP_NAME):
        return  # nearly always: spare the reading of all rounds' states
    point = resume_point(checkpoints_dir, optimizer_needed)
    clear_steps(checkpoints_dir, through=point.next_step - bool(point.steps_done))


def clear_steps(checkpoints_dir: str, through: int | None = None, uncommitted: bool = False) -> None:
    """Removes the checkpoints within rounds up to the one before global step `through` (None: all of them) and, with
    `uncommitted`, incomplete ones. Do not use `uncommitted` while a trainer may be writing one."""
    for number in place_of(checkpoints_dir).numbers(STEP_NAME):
        folder = step_dir(checkpoints_dir, number)
        if through is None or number <= through or (uncommitted and not is_committed(folder)):
            place_of(folder).delete()


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where training continues: after `round` (-1: from version 0), at global step `next_step`."""

    round: int = -1
    next_step: int = 0
    num_optimizer_steps: int = 0
    last_committed_round: int = -1  # rounds after `round` up to this one are replayed, not committed again
    steps_done: int = 0  # steps of round `round + 1` before `next_step`: they are in the weights already

    def starts_optimizer(self, training: TrainingConfig) -> bool:
        """Whether training goes on with a new optimizer from here: with `reset_optimizer`, and at a stage's start."""
        return not self.steps_done and (training.reset_optimizer or training.starts_stage(self.round + 1))

    def folder(self, checkpoints_dir: str) -> str:
        """The checkpoint to continue from."""
        if self.steps_done:
            return step_dir(checkpoints_dir, self.next_step)
        return version_dir(checkpoints_dir, self.round + 1)


def resume_point(checkpoints_dir: str, optimizer_needed: bool) -> ResumePoint:
    """The newest commit from which training can continue: a round's, or that of a step within a round.

    Where the optimizer is saved less often than the weights, that is the newest round which has it; the rows since are
    replayed. With `training.reset_optimizer` the weights alone are enough.
    """
    committed = committed_rounds(checkpoints_dir)
    last = committed[-1].round if committed else -1
    usable = [state for state in committed if state.has_optimizer or not optimizer_needed]
    usable += committed_steps(checkpoints_dir)
    points = [ResumePoint(s.round, s.next_step, s.num_optimizer_steps, last, s.steps_done) for s in usable]
    return max(points, key=lambda point: point.next_step, default=ResumePoint(last_committed_round=last))
