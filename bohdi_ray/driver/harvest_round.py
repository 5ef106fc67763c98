"""One round's harvest, as the driver runs it: hands out tickets, takes in outcomes, and commits step after step.

Called by fusion.py once a round; it decides nothing about rounds and never looks at text.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bohdi_ray.actors.harvest_task import harvest_bundle, propose, write_part
from bohdi_ray.actors.tree_manager import Assignment
from bohdi_ray.config import FusionConfig
from bohdi_ray.deadlines import within
from bohdi_ray.driver.round_figures import HarvestResult
from bohdi_ray.engines.routing import RoutingTable
from bohdi_ray.errors import SEE_LOGS, EngineFailed, Interrupted, StepNotReady
from bohdi_ray.names import RunNames
from bohdi_ray.observe.events import Notice, Tell
from bohdi_ray.observe.source_report import summed
from bohdi_ray.placement.pools.engine_start import longest_replacement_s
from bohdi_ray.records import Outcome, Proposals, Ticket
from bohdi_ray.run.lease import Claim
from bohdi_ray.run.run_dir import QUARANTINE, RunDir

# Names are short and all take about as long, so the requests of one moment share a task.
ELECTIONS_PER_TASK = 16
# Requests quarantined in a round, each the end of three engines, after which it is not requests that kill them.
MOST_QUARANTINED = 20


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What every task of a run gets: object references and handles, created once."""

    plan: Any  # ObjectRef[HarvestPlan]
    client_config: Any  # ObjectRef[EngineClientConfig]
    directory: Any
    manager: Any
    run: RunDir
    claim: Claim | None
    names: RunNames


@dataclass(slots=True)
class StepInProgress:
    """The results of one step so far."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    tables: list[Any] = field(default_factory=list)  # ObjectRef[pa.Table]


class Harvester:
    """Harvests the rounds of a run, one at a time. Proposals asked ahead may outlive a round; tickets never do.

    Consumes: tickets and open elections from the TreeManager; results of Ray tasks. Produces: harvest and proposal
    tasks (at most `max_tasks_in_flight` of the former), sample parts, commits. Waits for: the first of its tasks to
    end, with a deadline. Unblocked by: any task's end. A task that raises ends the round with its error, so nothing
    waits for it.
    """

    def __init__(
        self,
        config: FusionConfig,
        context: TaskContext,
        current_table: Callable[[], RoutingTable],
        stop_asked: asyncio.Event,
        tell: Tell,
    ):
        self._config, self._context = config, context
        self._current_table = current_table
        self._stop_asked = stop_asked
        self._tell = tell
        self._queue: collections.deque[Ticket] = collections.deque()
        self._seen: dict[str, Ticket] = {}
        self._asked: set[str] = set()
        self._steps: dict[int, StepInProgress] = collections.defaultdict(StepInProgress)
        self._num_by_step: dict[int, int] = collections.Counter()
        self._tasks: dict[asyncio.Task[Any], Callable[[Any], Any]] = {}
        # Collected by the tasks themselves: thousands may be under way, too many to look through at each one's end.
        self._ended: list[asyncio.Task[Any]] = []
        self._moved = asyncio.Event()  # a task has ended, or a stop was asked for
        self._bundles_in_flight = 0
        self._result = HarvestResult(0, 0)

    async def run(self, round: int, weights_version: int) -> HarvestResult:
        """Harvests and commits every step of `round`. If a stop was requested, drains and raises Interrupted."""
        self._result = result = HarvestResult(round, weights_version, started=time.monotonic())
        self._seen.clear()
        self._num_by_step.clear()
        cursor, incarnation = 0, None
        drain_until: float | None = None
        stop = asyncio.ensure_future(self._stop_asked.wait())
        stop.add_done_callback(lambda _: self._moved.set())
        try:
            while True:
                assignment: Assignment = await self._manager("assignment", cursor)
                assert assignment.work.round == round, (assignment.work.round, round)
                if assignment.incarnation != incarnation and incarnation is not None and cursor:
                    incarnation, cursor = assignment.incarnation, 0  # it was restarted: look at all its tickets again
                    continue
                incarnation = assignment.incarnation
                cursor = assignment.work.cursor
                self._take(assignment)
                result.abandoned = assignment.work.abandoned_for
                if drain_until is None and self._stop_asked.is_set():
                    drain_until = time.monotonic() + self._config.deadlines.drain_s
                if drain_until is None:
                    self._launch(assignment)
                if assignment.num_steps_left == 0:
                    break
                if await self._commit_if_ready(assignment, result):
                    self._tell(result.moved())
                    continue
                await self._wait(drain_until)
                self._tell(result.moved())
        except BaseException:
            for task in self._tasks:
                task.cancel()
            raise
        finally:
            stop.cancel()
        result.finished = time.monotonic()
        # Conservation: every ticket of the round was committed, with a sample or with the reason why not.
        assert result.num_tickets_issued == len(result.outcomes), (result.num_tickets_issued, len(result.outcomes))
        return result

    async def _manager(self, method: str, *args: Any) -> Any:
        reference = getattr(self._context.manager, method).remote(*args)
        return await within(reference, self._config.deadlines.request_s, f"TreeManager.{method}", SEE_LOGS)

    def _take(self, assignment: Assignment) -> None:
        for ticket in assignment.work.tickets:
            known = self._seen.get(ticket.ticket_id)
            if known == ticket:
                continue
            self._seen[ticket.ticket_id] = ticket
            self._queue.append(ticket)
            if known is None:
                self._num_by_step[ticket.step] += 1
                self._result.num_tickets_issued += 1
            else:
                # A restarted manager walked again, and engines that do not repeat themselves gave it other names.
                self._steps[ticket.step].outcomes.pop(ticket.ticket_id, None)

    def _launch(self, assignment: Assignment) -> None:
        table = self._current_table()
        new = [request for request in assignment.work.sprouts if request.request_id not in self._asked]
        self._asked.update(request.request_id for request in new)
        for start in range(0, len(new), ELECTIONS_PER_TASK):
            requests = new[start : start + ELECTIONS_PER_TASK]
            task = propose.options(name=self._context.names.named("sprout"))
            self._follow(
                task.remote(requests, self._context.plan, table, self._context.client_config), self._on_proposals
            )
        harvest = self._config.harvest
        while self._queue and self._bundles_in_flight < harvest.max_tasks_in_flight:
            # Spread what is ready over the free tasks: a full bundle only where there is more than enough.
            free = harvest.max_tasks_in_flight - self._bundles_in_flight
            size = min(harvest.tickets_per_task, -(-len(self._queue) // free))
            bundle = [self._queue.popleft() for _ in range(min(size, len(self._queue)))]
            task = harvest_bundle.options(name=self._context.names.named("harvest"))
            outcomes, samples = task.remote(bundle, self._context.plan, table, self._context.client_config)
            self._bundles_in_flight += 1
            self._follow(outcomes, partial(self._on_outcomes, bundle, samples))

    def _follow(self, reference: Any, then: Callable[[Any], Any]) -> None:
        # Tasks retry within themselves; this deadline only catches what no other one caught.
        deadlines = self._config.deadlines
        seconds = 3 * (deadlines.request_s + longest_replacement_s(deadlines))
        waiting = within(reference, seconds, "a harvest task", SEE_LOGS)
        task = asyncio.ensure_future(waiting)
        self._tasks[task] = then
        task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[Any]) -> None:
        self._ended.append(task)
        self._moved.set()

    async def _wait(self, drain_until: float | None) -> None:
        """Collects the tasks that have ended: waits for at least one, or until a stop is requested. During a drain,
        raises Interrupted when none has ended by `drain_until`."""
        if not self._tasks:
            if drain_until is None:
                raise AssertionError("a round that is not over has nothing under way")
            raise stopped(self._context.run)
        seconds = None if drain_until is None else max(0.0, drain_until - time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._ended and (drain_until is not None or not self._stop_asked.is_set()):
                    self._moved.clear()
                    await self._moved.wait()
        ended, self._ended = self._ended, []
        if drain_until is not None and not ended:
            raise stopped(self._context.run)
        for task in ended:
            handling = self._tasks.pop(task)(task.result())
            if asyncio.iscoroutine(handling):
                await handling

    async def _on_proposals(self, answers: list[Proposals]) -> None:
        await self._manager("propose", answers)
        # A manager that restarts before it journals them lists them again, and is answered again.
        self._asked.difference_update(proposals.request_id for proposals in answers)
        self._result.num_elections_asked += len(answers)
        self._result.sprout_tokens += sum(proposals.num_tokens for proposals in answers)
        self._result.num_tokens += sum(proposals.num_tokens for proposals in answers)
        self._result.num_invalid_names += sum(proposals.num_invalid for proposals in answers)
        self._result.num_unsupported_names += sum(proposals.num_unsupported for proposals in answers)
        self._result.proposed = summed([self._result.proposed, *(proposals.sources for proposals in answers)])
        for proposals in answers:
            self._result.model_tokens.update(proposals.model_tokens)
            for part in proposals.quarantined:
                self._count_quarantined("a request for names", part)

    def _on_outcomes(self, bundle: list[Ticket], samples: Any, outcomes: list[Outcome]) -> None:
        self._bundles_in_flight -= 1
        self._result.num_tickets_done += len(bundle)
        self._result.num_accepted += sum(outcome.failure is None for outcome in outcomes)
        self._result.num_tokens += sum(sum(outcome.num_tokens.values()) for outcome in outcomes)
        for ticket, outcome in zip(bundle, outcomes, strict=True):
            if outcome.quarantined is not None:
                self._count_quarantined(f"a request of ticket {ticket.ticket_id}", outcome.quarantined)
            if self._seen.get(ticket.ticket_id) == ticket:
                self._steps[ticket.step].outcomes[outcome.ticket_id] = outcome
        for step in {ticket.step for ticket in bundle}:
            self._steps[step].tables.append(samples)

    def _count_quarantined(self, what: str, part: str) -> None:
        run = self._context.run.location
        text = f"{what} was QUARANTINED, because it kills engines; {run}/{QUARANTINE}/{part} reproduces it"
        self._tell(Notice("quarantined", text, {"part": part}))
        self._result.num_quarantined += 1
        if self._result.num_quarantined >= MOST_QUARANTINED:
            raise EngineFailed(
                f"{MOST_QUARANTINED} requests were quarantined in round {self._result.round}: so the "
                f"cause is not a single request; see {run}/{QUARANTINE} and the engines' logs, and continue with "
                f"`bohdi resume {run}`"
            )

    async def _commit_if_ready(self, assignment: Assignment, result: HarvestResult) -> bool:
        """Commits the next committable step if all its outcomes are there: first writes the part, then the segment that
        names it."""
        step = assignment.committable
        if step is None or len(self._steps[step].outcomes) < self._num_by_step[step]:
            return False
        progress = self._steps[step]
        in_order = [progress.outcomes[ticket_id] for ticket_id in sorted(progress.outcomes)]
        try:
            screened = await self._manager("screen", step, in_order)
            accepted = [self._seen[outcome.ticket_id] for outcome in screened if outcome.failure is None]
            part = await self._write(result.round, step, accepted, progress.tables)
            await self._manager("commit_step", step, screened, part)
        except StepNotReady:
            return True  # the manager restarted in between and has to walk again first
        del self._steps[step]
        result.outcomes.extend(screened)
        for outcome in screened:
            result.domains.append(self._seen[outcome.ticket_id].path[0])
            result.model_tokens.update(outcome.model_tokens)
        return True

    async def _write(self, round: int, step: int, accepted: list[Ticket], tables: list[Any]) -> str:
        if not accepted:
            return ""
        task = write_part.options(name=self._context.names.named("samples"))
        reference = task.remote(self._context.run, self._context.claim, round, step, accepted, *tables)
        return await within(reference, self._config.deadlines.request_s, "a part of samples to be written", SEE_LOGS)


def stopped(run: RunDir) -> Interrupted:
    """The error that ends a run which was asked to stop."""
    return Interrupted(
        f"the run was asked to stop. All samples committed so far are kept in {run.location}: `bohdi tree` shows their "
        "tree, `bohdi export` writes them as a data set, checkpoints/ has the weights of the rounds that were trained. "
        f"To continue: bohdi resume {run.location}"
    )
