"""The resources a driver holds while it works on a run: a Ray session, the run's lease, its ledger, its observers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bohdi_ray.actors.evaluation_task import VersionScores
from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.ledger import restored_ledger, save
from bohdi_ray.driver.recovered import RecoveredState
from bohdi_ray.driver.resume import ResumeRequest, note_resumption, recover
from bohdi_ray.driver.round_figures import HarvestResult, harvested_event, round_summary
from bohdi_ray.driver.signals import stopping_on_signals, unless_stopped
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.errors import RunDirError
from bohdi_ray.observe import events
from bohdi_ray.observe.observers import Observer, Observers
from bohdi_ray.rounds import RunLedger
from bohdi_ray.run.environment import environment
from bohdi_ray.run.lease import Claim, Lease
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.tree.messages import RoundClosed
from bohdi_ray.tree.record.history import RoundRecord

T = TypeVar("T")

LAST_WRITES_S = 2.0


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """The run of this driver. Each event is first added to the ledger, by which the main loop decides, then reported to
    the observers, which only watch, then saved."""

    config: FusionConfig
    run_dir: RunDir
    claim: Claim
    recovered: RecoveredState
    ledger: RunLedger
    observers: Observers
    stop_asked: asyncio.Event

    def tell(self, event: events.Event) -> None:
        """Tells the observers."""
        self.observers.tell(event)

    def message(self, text: str) -> None:
        """Shows a line to the person who watches."""
        self.tell(events.Message(text))

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work`, which needs no drain, and returns its result. Raises Interrupted as soon as a stop is
        requested."""
        return await unless_stopped(work, self.stop_asked, self.run_dir)

    def before(self, round: int) -> RoundRecord | None:
        """The committed part of a round that earlier drivers began and this one closes."""
        record = self.recovered.open
        return record if record is not None and record.round == round else None

    def add_engines(self, stats: Mapping[str, EngineStats], num_replaced: int) -> None:
        """Records the counters of the engines by replica, and how many this driver replaced."""
        self.ledger.add_engines(stats)
        self.tell(events.EnginesCounted(self.ledger.cost, num_replaced, stats))

    def add_harvested(
        self, harvest: HarvestResult, closed: RoundClosed, num_rows: int, rehearsal_tokens: int = 0
    ) -> None:
        """Records that a round is harvested and its rows are queued."""
        before = self.before(harvest.round)
        summary = round_summary(harvest, num_rows, before, rehearsal_tokens)
        self.ledger.add_harvested(summary, harvest.started, harvest.finished)
        self.tell(harvested_event(summary, harvest, closed, before, self.ledger.cost))
        self.save()

    def add_trained(self, metrics: Mapping[str, Any]) -> None:
        """Records that the trainer has committed the next round."""
        summary = self.ledger.add_trained(metrics)
        self.tell(events.RoundTrained(summary, metrics))
        self.save()

    def add_evaluated(self, found: VersionScores, seconds: float, extra_s: float) -> None:
        """Records the scores of a version; `extra_s`: how long the run waited for nothing else."""
        self.ledger.add_evaluated(found.version, found.mean, extra_s)
        self.tell(events.VersionEvaluated(found.version, found.scores, seconds, extra_s, found.num_tokens))
        self.save()

    def save(self) -> None:
        """Writes RUN/progress.json. Raises RunDirError if another driver owns the run now."""
        save(self.ledger, self.run_dir, self.claim)


@contextlib.asynccontextmanager
async def active_run(
    config: FusionConfig,
    run: RunDir,
    make_observers: Callable[[FusionConfig, RunDir], Sequence[Observer]],
    started: float,
    request: ResumeRequest | None = None,
) -> AsyncIterator[tuple[ActiveRun, Lease]]:
    """The run belongs to this driver while the block runs. The outcome of the block is recorded, whatever it is.

    `started`: the driver's start, Unix time, s. Raises RunDirError if another driver works on the run.
    """
    stop_asked = asyncio.Event()
    with (
        held(run) as lease,
        contextlib.closing(Observers(make_observers(config, run))) as observers,
        stopping_on_signals(stop_asked, lambda text: observers.tell(events.Message(text))),
    ):
        recovered = recover(run)
        ledger = restored_ledger(config, run, started, recovered)
        active = ActiveRun(config, run, lease.claim, recovered, ledger, observers, stop_asked)
        with _recorded_end(active):
            active.save()  # that there was this driver counts from now on
            if request is not None:
                note_resumption(run, request, environment(), ledger.num_drivers)
                active.tell(_resumed(active, request))
            active.tell(events.RunOpened())
            yield active, lease


@contextlib.contextmanager
def _recorded_end(active: ActiveRun) -> Iterator[None]:
    why: str | None = None
    try:
        yield
    except BaseException as error:
        why = f"{type(error).__name__}: {error}"
        raise
    finally:
        with contextlib.suppress(RunDirError):  # somebody else's by now
            active.save()
            schedule = active.ledger.schedule
            active.tell(events.Ended(why, schedule.stop_reason if schedule.done else None))


def _resumed(active: ActiveRun, request: ResumeRequest) -> events.Resumed:
    recovered, under_way = active.recovered, active.recovered.open
    if under_way is not None and not under_way.tickets:  # it may also be one that will never begin
        under_way = None
    return events.Resumed(
        location=active.run_dir.location,
        driver=active.ledger.num_drivers + 1,
        num_closed=len(recovered.closed),
        open_round=under_way.round if under_way else None,
        num_open_tickets=under_way.tickets if under_way else 0,
        weights_version=recovered.newest_version,
        damaged=recovered.damaged,
        changes=tuple(str(change) for change in request.changes),
    )


async def keep_lease(lease: Lease) -> None:
    """Renews the lease of a run. Consumes: time. Produces: a heartbeat in the lease every sixth of its age limit. Waits
    for: the storage. Runs until cancelled; raises RunDirError when another driver owns the run."""
    while True:
        await asyncio.sleep(lease.stale_after_s / 6)
        await asyncio.to_thread(lease.renew)


@contextlib.contextmanager
def held(run: RunDir) -> Iterator[Lease]:
    """The run belongs to this process while the block runs."""
    lease = Lease(run)
    if lease.acquire():
        # What the last driver left running asks for the lease before it writes; a write that had asked may still end.
        time.sleep(LAST_WRITES_S)
    try:
        yield lease
    except BaseException:
        with contextlib.suppress(RunDirError):  # storage that failed once is reported once
            lease.release()
        raise
    lease.release()
