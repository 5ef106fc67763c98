"""Going on with a run that was interrupted: what it left, whether this configuration fits it, what has to be cleared.

The journal says what was harvested, the checkpoints what was trained, RUN/progress.json the rest. Called by fusion.py
before anything starts; the parts of a run then find their own state on disk.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from bohdi_ray.config import FusionConfig
from bohdi_ray.config_changes import Change, changes
from bohdi_ray.errors import ConfigError, ConfigErrors, RunDirError
from bohdi_ray.run_state import DriverState, read_state
from bohdi_ray.storage.run_dir import BEST, CHECKPOINTS, CONFIG, SAMPLES, SUMMARY, TARGET, RunDir
from bohdi_ray.storage.samples import SampleStore
from bohdi_ray.storage.segments import Segments
from bohdi_ray.training.checkpoints import committed_rounds
from bohdi_ray.tree.history import RoundRecord, read_history


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier drivers left of a run; of a new run, nothing."""

    state: DriverState = field(default_factory=DriverState)
    rounds: tuple[RoundRecord, ...] = ()  # as the journal tells them; the last one may be open
    newest_version: int = 0  # of the weights that are committed

    @property
    def closed(self) -> tuple[RoundRecord, ...]:
        """The rounds that are harvested and whose rows are drawn."""
        return tuple(record for record in self.rounds if record.row_sample_ids is not None)

    @property
    def open(self) -> RoundRecord | None:
        """The round under way, as far as its steps are committed."""
        return next((record for record in self.rounds if record.row_sample_ids is None), None)


def reopen(config: FusionConfig) -> tuple[RunDir, list[Change]]:
    """The run in `config.run_dir`, and what differs from the configuration it was last run with.

    Raises RunDirError if there is no run, or nothing is left to do; ConfigErrors for every change that would make
    another run of it.
    """
    if "{time}" in config.run_dir:
        rule = "names a new run each time"
        remedy = "Name the run: `bohdi resume RUN`, or run_dir=RUN beside --resume."
        raise ConfigErrors([ConfigError("run_dir", config.run_dir, rule, remedy)])
    run = RunDir.open(config.run_dir)
    found = changes(run.config(), config)
    refused = [change for change in found if not change.harmless]
    if refused:
        rule = "what was harvested and trained so far follows from another value"
        raise ConfigErrors(
            [
                ConfigError(
                    c.field, c.after, f"{rule}, {c.before!r}", f"Set it back to {c.before!r}, or start a new run."
                )
                for c in refused
            ]
        )
    if run.exists(SUMMARY) and run.exists(TARGET) and run.exists(BEST):
        reason = json.loads(run.read_bytes(SUMMARY))["stop_reason"]
        if not any(change.field.startswith("stop.") for change in found):
            raise RunDirError(
                f"{run.location} has ended ({reason}). To go on with it, raise a stop rule: "
                f"bohdi resume {run.location} stop.rounds={config.stop.rounds * 2}"
            )
    _check_workers(run, config)
    return run, found


def _check_workers(run: RunDir, config: FusionConfig) -> None:
    """DeepSpeed's optimizer state is cut by rank: it fits as many workers as wrote it."""
    saved = [state for state in committed_rounds(run.path(CHECKPOINTS)) if state.has_optimizer]
    workers = config.training.num_workers
    if saved and not config.training.reset_optimizer and saved[-1].world_size != workers:
        wrote = saved[-1].world_size
        rule = f"the optimizer state of round {saved[-1].round} was saved by {wrote} workers"
        remedy = f"Use {wrote}, or set training.reset_optimizer=true to go on with the weights alone."
        raise ConfigErrors([ConfigError("training.num_workers", workers, rule, remedy)])


def look_back(run: RunDir) -> Past:
    """What the run's earlier drivers left. Clears what was half done; call it with the lease in hand.

    Cleared are sample parts that no committed step names and checkpoint folders without COMMIT: both are made again.
    """
    rounds = read_history(data for _, data in Segments(run).read_segments().segments)
    named = {part for record in rounds for part in record.parts}
    for part in SampleStore(run).parts():
        if part not in named:
            run.delete(f"{SAMPLES}/{part}")
    run.clean_uncommitted()
    committed = run.committed_rounds()
    return Past(read_state(run), tuple(rounds), committed[-1] + 1 if committed else 0)


def note_resumption(run: RunDir, config: FusionConfig, environment: dict[str, Any], num_drivers: int) -> None:
    """The configuration in force from here on, and the machine that goes on; the first environment.json stays."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    run.write_bytes(CONFIG, text.encode())
    name = f"environment-{num_drivers}.json"
    run.write_bytes(name, (json.dumps(environment, indent=2, sort_keys=True) + "\n").encode())
