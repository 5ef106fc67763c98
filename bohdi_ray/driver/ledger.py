"""Restores the ledger of a run (`rounds.RunLedger`) from the run's files and saves it to RUN/progress.json."""

from __future__ import annotations

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.recovered import RecoveredState
from bohdi_ray.driver.round_figures import restored_summary
from bohdi_ray.examples.rehearsal_store import RehearsalStore
from bohdi_ray.rounds import RunLedger
from bohdi_ray.run.lease import Claim
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.state import write_state


def restored_ledger(config: FusionConfig, run: RunDir, started: float, recovered: RecoveredState) -> RunLedger:
    """The ledger of a run of which journal, checkpoints, last driver and RUN/replay tell. `started`: this driver's
    start, Unix time, s."""
    rehearsals = RehearsalStore(run)

    def rehearsed(round: int) -> tuple[int, int]:
        """The number of rehearsal rows that a round trains on, and the number of tokens that were decoded for its
        rehearsal."""
        if not rehearsals.has(round):
            return 0, 0
        most = config.at(round).rehearsal_rows_per_round
        return len(rehearsals.kept_ids(round, most)), rehearsals.figures(round).num_tokens

    state = recovered.state
    rounds = [restored_summary(record, state, *rehearsed(record.round)) for record in recovered.closed]
    return RunLedger(config, started, state, rounds, recovered.newest_version)


def save(ledger: RunLedger, run: RunDir, claim: Claim | None) -> None:
    """Writes RUN/progress.json. Raises RunDirError if another driver owns the run now."""
    if claim is not None:
        claim.check()
    write_state(run, ledger.state())
