"""The ledger of a run (`rounds.RunLedger`) and its files: restored from them, saved into RUN/progress.json."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.round_figures import restored_summary
from bohdi_ray.examples.rehearsal_store import RehearsalStore
from bohdi_ray.rounds import Progress, RunLedger
from bohdi_ray.run.lease import Claim
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.run.state import DriverState, read_state, write_state
from bohdi_ray.tree.record.history import RoundRecord, read_history


def restored_ledger(
    config: FusionConfig,
    run: RunDir,
    started: float,
    state: DriverState,
    closed: Sequence[RoundRecord],
    newest_version: int,
) -> RunLedger:
    """The ledger of a run whose closed rounds journal, last driver and RUN/replay tell of. `started`: this driver's
    start, Unix time, s."""
    rehearsals, most = RehearsalStore(run), config.rehearsal_rows_per_round

    def rehearsed(round: int) -> tuple[int, int]:
        """Rows of a round's rehearsal that it trains on, and tokens that were decoded for it."""
        if not rehearsals.has(round):
            return 0, 0
        return len(rehearsals.kept_ids(round, most)), rehearsals.figures(round).num_tokens

    rounds = [restored_summary(record, state, *rehearsed(record.round)) for record in closed]
    return RunLedger(config, started, state, rounds, newest_version)


def reached(run: RunDir, config: FusionConfig) -> Progress:
    """What the stop rules see of a run that nobody works on, so that whether anything is left to do is known before
    anything is started. Reads only."""
    closed = [
        record for record in read_history(d for _, d in Segments(run).read_segments().segments) if record.is_closed
    ]
    committed = run.committed_rounds()
    newest_version = committed[-1] + 1 if committed else 0
    state = read_state(run, min(newest_version, len(closed)))
    return restored_ledger(config, run, time.time(), state, closed, newest_version).progress()


def save(ledger: RunLedger, run: RunDir, claim: Claim | None) -> None:
    """RUN/progress.json. Raises RunDirError when the run is somebody else's by now."""
    if claim is not None:
        claim.check()
    write_state(run, ledger.state())
