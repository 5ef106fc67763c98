"""The trainer's folders: names, state.json, COMMIT, and where training may go on. Standard library only.

    checkpoints/base/       weights/ probe.json COMMIT                        version 0, written once
    checkpoints/round-<r>/  weights/ probe.json state.json COMMIT             version r + 1
                            metrics.json, what the trainer reported, written after COMMIT
                            optimizer/ with a COMMIT of its own, where it was saved

`COMMIT` is written last and synced; a folder without it does not exist for anybody and may be overwritten. Written by
rank 0 of the train workers, read by the SampleQueue, the engines' owner and resuming workers. Nothing here deletes a
committed folder: retention is the driver's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

ROUND_NAME = re.compile(r"round-(\d+)")
_FORGOTTEN = "FORGOTTEN"  # in the place of an optimizer state that was given up


@dataclass(frozen=True, slots=True)
class RoundState:
    """state.json: what was true when a round was committed."""

    round: int
    next_step: int  # global step that follows this round
    num_optimizer_steps: int  # taken so far; places the learning-rate schedule
    weights_version: int  # round + 1
    world_size: int
    has_optimizer: bool  # whether training can go on exactly from here


def round_dir(checkpoints_dir: str, round: int) -> str:
    """Folder of a round's checkpoint."""
    return os.path.join(checkpoints_dir, f"round-{round}")


def version_dir(checkpoints_dir: str, weights_version: int) -> str:
    """Folder that holds this version of the target: `base` for 0, else the one of the round that made it."""
    return (
        os.path.join(checkpoints_dir, "base")
        if weights_version == 0
        else round_dir(checkpoints_dir, weights_version - 1)
    )


def is_committed(folder: str) -> bool:
    """Whether COMMIT is there."""
    return os.path.exists(os.path.join(folder, "COMMIT"))


def start_folder(folder: str) -> None:
    """An empty folder in the place of an uncommitted one."""
    assert not is_committed(folder), f"{folder} is committed and must not change"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)


def commit_folder(folder: str) -> None:
    """Writes COMMIT last, after everything else in the folder has reached the disk."""
    everything = [os.path.join(parent, name) for parent, _, files in os.walk(folder) for name in (*files, "")]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(_sync, everything))
    write_text(os.path.join(folder, "COMMIT"), "")
    _sync(folder)


def write_text(path: str, text: str) -> None:
    """Writes and syncs one small file, replacing it in one go."""
    temporary = path + ".writing"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def optimizer_dir(folder: str) -> str:
    """Where a round's optimizer state lies. It has a COMMIT of its own: it is written after the weights are out."""
    return os.path.join(folder, "optimizer")


def forget_optimizer(checkpoints_dir: str) -> int | None:
    """Training goes on from the newest committed weights with a new optimizer, whatever wrote the last one; returns
    their round, None if there is none. Called by a driver, before any worker starts."""
    committed = committed_rounds(checkpoints_dir)
    if not committed:
        return None
    folder = optimizer_dir(round_dir(checkpoints_dir, committed[-1].round))
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    write_text(os.path.join(folder, _FORGOTTEN), "")
    commit_folder(folder)
    return committed[-1].round


def optimizer_to_load(folder: str, world_size: int) -> str | None:
    """The optimizer state of a committed round for this many workers; None where a new optimizer is to begin.

    Raises ValueError if it was saved by another number of workers: DeepSpeed cuts it by rank.
    """
    saved, state = optimizer_dir(folder), read_state(folder)
    if not state.has_optimizer or os.path.exists(os.path.join(saved, _FORGOTTEN)):
        return None
    if state.world_size != world_size:
        raise ValueError(f"the optimizer state of round {state.round} was saved by {state.world_size} workers")
    return saved


def write_state(folder: str, state: RoundState) -> None:
    """state.json of an uncommitted folder."""
    fields = asdict(state)
    del fields["has_optimizer"]  # told by optimizer/COMMIT
    write_text(os.path.join(folder, "state.json"), json.dumps(fields, indent=1))


def read_state(folder: str) -> RoundState:
    """state.json of a committed folder."""
    with open(os.path.join(folder, "state.json"), encoding="utf-8") as file:
        return RoundState(**json.load(file), has_optimizer=is_committed(optimizer_dir(folder)))


def write_metrics(folder: str, metrics: dict[str, Any]) -> None:
    """What the trainer reports of a committed round, for whoever asks after a restart."""
    write_text(os.path.join(folder, "metrics.json"), json.dumps(metrics))


def read_metrics(folder: str) -> dict[str, Any]:
    """What `write_metrics` wrote; {} if the trainer died before it did."""
    try:
        with open(os.path.join(folder, "metrics.json"), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def committed_rounds(checkpoints_dir: str) -> list[RoundState]:
    """All committed rounds still there, oldest first."""
    if not os.path.isdir(checkpoints_dir):
        return []
    found = (ROUND_NAME.fullmatch(name) for name in os.listdir(checkpoints_dir))
    rounds = sorted(int(match[1]) for match in found if match)
    folders = [round_dir(checkpoints_dir, number) for number in rounds]
    return [read_state(folder) for folder in folders if is_committed(folder)]


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where training goes on: after `round` (-1: from version 0), at global step `next_step`."""

    round: int = -1
    next_step: int = 0
    num_optimizer_steps: int = 0
    last_committed_round: int = -1  # rounds after `round` up to this one are replayed, not committed again


def resume_point(checkpoints_dir: str, optimizer_needed: bool) -> ResumePoint:
    """The newest committed round that training can go on from.

    Where the optimizer is saved less often than the weights, that is the newest round which has it; the rows since are
    replayed. With `training.reset_optimizer` the weights alone are enough.
    """
    committed = committed_rounds(checkpoints_dir)
    usable = [state for state in committed if state.has_optimizer or not optimizer_needed]
    if not usable:
        return ResumePoint(last_committed_round=committed[-1].round if committed else -1)
    newest = usable[-1]
    return ResumePoint(newest.round, newest.next_step, newest.num_optimizer_steps, committed[-1].round)
