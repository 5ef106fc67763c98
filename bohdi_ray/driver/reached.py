"""What a run has come to, as its stop rules see it, from its files alone. Reads only.

So whether anything is left to do is known before anything is started. The driver's book-keeping begins with the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.round_figures import cost, restored_summary
from bohdi_ray.examples.rehearsal_store import RehearsalStore
from bohdi_ray.observe.summary import RoundSummary
from bohdi_ray.rounds import Progress
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.run.state import DriverState, read_state
from bohdi_ray.tree.record.history import RoundRecord, read_history


def reached(run: RunDir, config: FusionConfig) -> Progress:
    """Of a run that nobody works on."""
    closed = [
        record for record in read_history(d for _, d in Segments(run).read_segments().segments) if record.is_closed
    ]
    committed = run.committed_rounds()
    state = read_state(run, min(committed[-1] + 1 if committed else 0, len(closed)))
    rounds = restored_rounds(run, config, closed, state)
    spent = cost(config, state.engines.values())
    return progress_of(rounds, state.wall_time_s, spent, state.rounds_without_gain)


def restored_rounds(
    run: RunDir, config: FusionConfig, closed: Iterable[RoundRecord], state: DriverState
) -> list[RoundSummary]:
    """The closed rounds as the journal, the last driver and RUN/replay tell them."""
    rehearsals, most = RehearsalStore(run), config.rehearsal_rows_per_round

    def rehearsed(round: int) -> tuple[int, int]:
        """Rows of a round's rehearsal that it trains on, and tokens that were decoded for it."""
        return (
            (len(rehearsals.kept_ids(round, most)), rehearsals.figures(round).num_tokens)
            if rehearsals.has(round)
            else (0, 0)
        )

    return [restored_summary(record, state, *rehearsed(record.round)) for record in closed]


def progress_of(rounds: Iterable[RoundSummary], wall_time_s: float, cost: float, rounds_without_gain: int) -> Progress:
    """What the stop rules look at."""
    rounds = list(rounds)
    return Progress(
        rounds=len(rounds),
        samples=sum(round.accepted for round in rounds),
        decoded_tokens=sum(sum(round.tokens.values()) for round in rounds),
        wall_time_s=wall_time_s,
        cost=cost,
        rounds_without_gain=rounds_without_gain,
    )
