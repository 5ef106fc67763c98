"""Resuming a run that was interrupted: checks whether this configuration fits it, and clears incomplete work.

Called by fusion.py before anything starts, and by session.py with the lease in hand; the components of a run then find
their own state on disk.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

import msgspec

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.changes import Change, changes
from bohdi_ray.config.training import StageSettings
from bohdi_ray.driver.ledger import restored_ledger
from bohdi_ray.driver.recovered import RecoveredState, recovered_state
from bohdi_ray.errors import ConfigError, ConfigErrors, NothingLearned, RunDirError, RunFinished
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.languages.questions import TEXT_RULES
from bohdi_ray.rounds import stop_reason
from bohdi_ray.run.json_files import decoded
from bohdi_ray.run.run_dir import (
    BEST,
    CHECKPOINTS,
    SAMPLES,
    SUMMARY,
    TARGET,
    TREE,
    RunDir,
    checkpoint_dir,
)
from bohdi_ray.training.weights.checkpoints import (
    clear_steps,
    committed_steps,
    forget_optimizer,
    optimizer_to_load,
    resume_point,
)

S = TypeVar("S", bound=StageSettings)


class _Ended(msgspec.Struct):
    """The part of summary.json that says why the run ended."""

    stop_reason: str
    failed_because: str | None = None


def reopen(config: FusionConfig, reset_optimizer: bool = False) -> tuple[FusionConfig, list[Change]]:
    """The configuration to continue with in `config.run_dir`, and its differences from the one used there last.

    Raises RunDirError if there is no run, RunFinished if nothing is left to do, NothingLearned if it would end the same
    way again, and ConfigErrors for every change that would make it another run. `reset_optimizer`: training continues
    from the weights alone, with a new optimizer.
    """
    if "{time}" in config.run_dir:
        rule = "names a new run each time"
        remedy = "Name the run: `bohdi resume RUN`, or run_dir=RUN beside --resume."
        raise ConfigErrors([ConfigError("run_dir", config.run_dir, rule, remedy)])
    run = RunDir.open(config.run_dir)
    check_text_rules(run)
    before = run.config()
    config = with_schedule(config, before)
    found = changes(before, config)
    refused = [change for change in found if not change.harmless]
    if refused:
        rule = "what was harvested and trained so far depends on another value"
        raise ConfigErrors(
            [
                ConfigError(
                    c.field, c.after, f"{rule}, {c.before!r}", f"Set it back to {c.before!r}, or start a new run."
                )
                for c in refused
            ]
        )
    _raise_if_over(run, config, any(change.field.startswith("stop.") for change in found))
    if not reset_optimizer:
        _check_workers(run, config)
    return config, found


def check_text_rules(run: RunDir) -> None:
    """Raises RunDirError for a run whose questions were normalised and measured by other rules than this version's.

    The hashes in its journal no longer match any question: repeated questions would not be noticed, and questions that
    were trained on might count as held out.
    """
    began = run.environment()
    if (rules := began.get("text_rules")) != TEXT_RULES:
        raise RunDirError(
            f"{run.location} was started by bohdi_ray {began.get('bohdi_ray')} (commit {began.get('git')}) with text "
            f"rules {rules or 1}; this version has {TEXT_RULES}. Its questions would not be recognised, neither "
            "repeated nor held-out ones. Resume it with that version, or start a new run; `bohdi tree`, `bohdi status` "
            "and `bohdi export` read it"
        )


def _raise_if_over(run: RunDir, config: FusionConfig, other_rules: bool) -> None:
    """Checks, before anything is started, whether anything is left to do. `other_rules`: the stop rules differ from
    those the run ended with."""
    exported = run.is_exported(TARGET) and run.is_exported(BEST)
    if not run.exists(SUMMARY):
        return
    where, remedy = f"{run.location}/{SUMMARY}", "remove it: the run then continues"
    ended = decoded(run.read_bytes(SUMMARY), _Ended, where, remedy)
    if not exported and ended.failed_because is None:
        return
    reason: str | None = ended.stop_reason
    if other_rules or not exported:
        ledger = restored_ledger(config, run, time.time(), recovered_state(run))
        reason = stop_reason(config.stop, ledger.progress())
    if reason is None:
        return
    if not exported:
        raise NothingLearned(str(ended.failed_because))
    still = "" if reason == ended.stop_reason else f", and {reason} is reached too"
    raise RunFinished(
        f"{run.location} has ended ({ended.stop_reason}){still}: {run.shown(TARGET)} is its target. To continue it, "
        f"raise that stop rule: bohdi resume {run.location} {_raised(config, reason)}"
    )


def with_schedule(config: FusionConfig, before: FusionConfig | None = None) -> FusionConfig:
    """`config` with the length of its learning-rate schedule written down: a later change of `stop.rounds` must not
    bend the schedule under way. `before` is the configuration that the run was begun with."""

    def settled(settings: S, first_round: int) -> S:
        schedule = config.training.at(first_round).schedule
        if schedule.kind == "constant" or schedule.total_steps is not None:
            return settings
        total_steps = (before or config).schedule_steps(first_round)
        return settings.model_copy(update={"schedule": schedule.model_copy(update={"total_steps": total_steps})})

    training = config.training
    if training.stages:
        firsts = accumulate((stage.rounds or 0 for stage in training.stages), initial=0)
        stages = tuple(settled(stage, first) for stage, first in zip(training.stages, firsts, strict=False))
        training = training.model_copy(update={"stages": stages})
    else:
        training = settled(training, 0)
    return config.model_copy(update={"training": training})


def _raised(config: FusionConfig, reason: str) -> str:
    """The stop rule that ended the run, as an override with twice its value."""
    name = reason.split(" ")[0].removeprefix("stop.")
    value = getattr(config.stop, name, None)
    return f"stop.rounds={config.stop.rounds * 2}" if value is None else f"stop.{name}={value * 2}"


def _check_workers(run: RunDir, config: FusionConfig) -> None:
    """Checks the number of workers: DeepSpeed's optimizer state is partitioned by rank, so only as many workers as
    wrote it can load it."""
    checkpoints, workers = run.address(CHECKPOINTS), config.training.num_workers
    point = resume_point(checkpoints, not config.training.reset_optimizer)
    if point.starts_optimizer(config.training):
        return
    try:
        optimizer_to_load(point.folder(checkpoints), workers)
    except ValueError as error:
        remedy = "Use as many, or continue with the weights alone: bohdi resume RUN --reset-optimizer."
        raise ConfigErrors([ConfigError("training.num_workers", workers, str(error), remedy)]) from None


def recover(run: RunDir) -> RecoveredState:
    """Reads the state that the run's earlier drivers left and clears incomplete work. Call it while holding the lease.

    It clears sample parts that no committed step names and checkpoint folders without COMMIT; both are made again.
    Raises RunDirError, and clears nothing, if rounds are trained that the journal does not list as harvested.
    """
    left = recovered_state(run)
    num_closed = len(left.closed)
    lost = [checkpoint_dir(round) for round in left.committed if round >= num_closed]
    within = [state for state in committed_steps(run.address(CHECKPOINTS)) if state.round + 1 >= num_closed]
    lost += [f"{CHECKPOINTS}/step-{state.next_step}" for state in within]
    if lost:
        folders = " ".join(run.shown(folder) for folder in lost)
        raise RunDirError(
            f"the end of the journal in {run.location} is lost: it lists {num_closed} harvested rounds, but more "
            f"are trained. Restore {TREE}/ from a copy; or, to continue without what was lost, remove {folders}"
        )
    named = {part for record in left.rounds for part in record.parts}
    for part in SampleStore(run).parts():
        if part not in named:
            run.delete(f"{SAMPLES}/{part}")
    run.clean_uncommitted()
    clear_steps(run.address(CHECKPOINTS), through=-1, uncommitted=True)
    return left


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """Options for resuming a run."""

    config: FusionConfig  # as asked for, not yet settled for a cluster
    changes: tuple[Change, ...]
    reset_optimizer: bool


def note_resumption(run: RunDir, request: ResumeRequest, environment: dict[str, Any], num_drivers: int) -> None:
    """Writes the configuration that is valid from here on, and this driver's machine; the first environment.json stays.

    Deletes the summary first, because from here on the run counts as running again.
    """
    run.delete(SUMMARY)
    if request.reset_optimizer:
        forget_optimizer(run.address(CHECKPOINTS))
    run.write_config(request.config)
    run.write_environment(environment, f"environment-{max(1, num_drivers)}.json")
