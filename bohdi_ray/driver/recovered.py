"""The state that earlier drivers left in a run's files. Reads only.

The journal says what was harvested, the checkpoints what was trained, RUN/progress.json the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.run.state import DriverState, read_state
from bohdi_ray.tree.record.history import RoundRecord, read_history


@dataclass(frozen=True, slots=True)
class RecoveredState:
    """The state that earlier drivers left; empty for a new run."""

    state: DriverState = field(default_factory=DriverState)
    rounds: tuple[RoundRecord, ...] = ()  # as the journal has them; the last one may be open
    committed: tuple[int, ...] = ()  # rounds whose weights are committed, ascending
    damaged: str | None = None  # what is wrong with the journal's last segment, which is left out

    @property
    def closed(self) -> tuple[RoundRecord, ...]:
        """The rounds that are harvested and whose rows are drawn."""
        return tuple(record for record in self.rounds if record.is_closed)

    @property
    def open(self) -> RoundRecord | None:
        """The current round, as far as its steps are committed."""
        return next((record for record in self.rounds if not record.is_closed), None)

    @property
    def newest_version(self) -> int:
        """The newest committed version of the weights."""
        return self.committed[-1] + 1 if self.committed else 0


def recovered_state(run: RunDir) -> RecoveredState:
    """Reads the state from the run's files. Raises RunDirError if its journal is damaged."""
    journal = Segments(run).read_segments()
    rounds = tuple(read_history(data for _, data in journal.segments))
    committed = tuple(run.committed_rounds())
    left = RecoveredState(rounds=rounds, committed=committed, damaged=journal.damaged)
    return replace(left, state=read_state(run, min(left.newest_version, len(left.closed))))
