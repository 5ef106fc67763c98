"""Decides which checkpoints may be deleted. The decision is a pure function; the driver executes it after every
committed round."""

from __future__ import annotations

from collections.abc import Collection

from bohdi_ray.run.node_files import OPTIMIZER
from bohdi_ray.run.run_dir import COMMIT, RunDir, checkpoint_dir


def checkpoints_to_delete(
    committed: Collection[int],
    keep: int,
    needed_versions: Collection[int],
    best: int | None,
    with_optimizer: Collection[int] | None = None,
) -> list[int]:
    """Rounds whose checkpoints are no longer needed, ascending.

    Kept are the `keep` newest rounds, those whose weights a harvest or an evaluation may still use (`needed_versions`;
    version v is round v - 1's), the best version so far, and the newest round with an optimizer state, from which
    training recovers (`with_optimizer`: the rounds that have one; None means all). Version 0 is no round: it stays.
    """
    newest = sorted(committed)[-keep:]
    kept = {*newest, *(version - 1 for version in needed_versions)}
    if best is not None:
        kept.add(best - 1)
    recoverable = [round for round in committed if with_optimizer is None or round in with_optimizer]
    if recoverable:
        kept.add(max(recoverable))
    return sorted(set(committed) - kept)


def rounds_with_optimizer(run: RunDir, committed: Collection[int]) -> list[int]:
    """The committed rounds that have a complete optimizer state (with its own COMMIT), ascending."""
    return [round for round in sorted(committed) if run.exists(f"{checkpoint_dir(round)}/optimizer/{COMMIT}")]


def drop_optimizers(run: RunDir, committed: Collection[int], resume_round: int) -> None:
    """Removes the optimizer states of committed rounds before the one from which the workers would start: they are
    never loaded again, and each is many times as large as the weights. The weights stay."""
    for round in committed:
        if round < resume_round:
            run.delete(f"{checkpoint_dir(round)}/{OPTIMIZER}")


def delete_checkpoints(run: RunDir, rounds: Collection[int]) -> None:
    """Remove them. COMMIT is deleted first, so that a crash half-way leaves an uncommitted folder."""
    for round in rounds:
        run.delete(f"{checkpoint_dir(round)}/{COMMIT}")
        run.delete(checkpoint_dir(round))
