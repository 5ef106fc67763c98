"""SampleQueue: takes rounds of examples and gives numbered steps to ranks, all by ids. Pure; no waiting, no Ray.

Owned by the actor in actors/sample_queue.py, which adds waiting. The driver puts rounds, Ray Data's read tasks take
steps, rank 0 of the trainer reports commits. A take never removes a step, so a repeated or retried read sees the same
rows.

Conservation, asserted in `status`: rows drawn = rows trained + rows queued. A row counts as trained when the COMMIT of
its round is durable; its memory is freed when no restart of the workers can ask for it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bohdi_ray.config import TrainingConfig
from bohdi_ray.errors import BohdiError
from bohdi_ray.training.feed.rejection import RoundRefused
from bohdi_ray.training.feed.steps import GlobalStep, cut_round, heldout_of_rank, share_of_rank
from bohdi_ray.training.weights.checkpoints import ResumePoint, RoundState

METRICS_KEPT = 8  # rounds; older ones are asked of the checkpoint's folder


class StaleAttempt(BohdiError):
    """The reader belongs to an earlier start of the worker group; a newer one has begun."""


@dataclass(frozen=True, slots=True)
class NotYet:
    """The step's round has not been put yet. Ask again."""


@dataclass(frozen=True, slots=True)
class Ended:
    """No such step will ever come, because the run is finished or was stopped."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of the worker group: its number and the point from which it continues."""

    attempt: int
    resume: ResumePoint


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Counts of rows and steps, and the progress of the trainer."""

    last_committed_round: int  # -1: none
    next_round: int  # the round `put_round` waits for; after a restart of the queue, the first one to put again
    num_rows_drawn: int
    num_rows_trained: int
    num_rows_queued: int
    next_step: int  # number of the first step not put yet
    num_steps_acked: int  # steps done by every rank in this attempt, not yet committed
    num_steps_queued: int  # steps put and not done
    attempt: int
    busy: bool  # a put step is not done yet
    ends: bool  # `finish` or `stop` was called
    idle_s: float  # since the trainer last took, finished or committed anything
    incarnation: str  # changes when the queue's actor was restarted and lost its rows
    resume_round: int  # the newest round behind which a new start of the workers goes on; earlier rows are not needed
    refused: RoundRefused | None  # a round that the trainer does not train: it has ended then
    rests: bool  # with `placement: colocate`: every rank has left its card and waits for the next round's rows


class SampleQueue:
    """The state of the queue. Rounds are consecutive from `resume.round + 1` on; steps from `resume.next_step`."""

    def __init__(
        self,
        training: TrainingConfig,
        resume: ResumePoint = ResumePoint(),  # noqa: B008  frozen
        incarnation: str = "",
        clock: Callable[[], float] = time.monotonic,
    ):
        self._training = training
        self._resume = resume  # where a worker group that starts now goes on
        self._clock = clock
        self._incarnation = incarnation
        self._steps: dict[int, GlobalStep] = {}
        self._next_round = resume.round + 1
        self._next_step = resume.next_step - resume.steps_done  # of the first round to be put
        self._last_committed_round = resume.last_committed_round
        self._num_rows_of_round: dict[int, int] = {}  # of rounds that a restart may still ask for
        self._heldout_of_round: dict[int, frozenset[str]] = {}  # of the same rounds, and the one before them
        self._num_rows_done = 0  # of the rounds before
        self._num_rounds: int | None = None
        self._end_step: int | None = None  # set by stop
        self._attempt = 0
        self._world_size: int | None = None
        self._max_taken = resume.next_step - 1
        self._first_round = resume.round + 1  # that this start of the workers trains
        self._acked: dict[int, int] = {}  # rank -> newest step done
        self._resting: set[int] = set()  # ranks that hold nothing of their cards
        self._last_event = clock()
        self._metrics: dict[int, dict[str, Any]] = {}
        self._refused: RoundRefused | None = None

    def changed(self) -> None:
        """Called after every change that somebody may wait for, so that the actor can wake the waiters."""

    # Driver's side

    def put_round(self, round: int, rows: Sequence[str], heldout: Sequence[str] = (), put_at: float = 0.0) -> None:
        """Adds a round: ids to train on, ids to measure. Putting one again changes nothing; leaving one out is
        refused."""
        if round < self._next_round:
            return
        if round > self._next_round:
            raise BohdiError(f"round {round} was put before round {self._next_round}; put the missing rounds first")
        for step in cut_round(round, self._next_step, rows, heldout, self._training.at(round).global_batch_size):
            self._steps[step.step] = replace(step, put_at=put_at)
            self._next_step = step.step + 1
        self._num_rows_of_round[round] = len(rows)
        self._heldout_of_round[round] = frozenset(heldout)
        self._next_round = round + 1
        self._last_event = self._clock()  # from now on the trainer is expected to move
        self.changed()

    def finish(self, num_rounds: int) -> None:
        """Declares that rounds 0 .. num_rounds - 1 are all; readers end after them."""
        self._num_rounds = num_rounds
        self.changed()

    def stop(self) -> None:
        """Makes readers end as soon as all ranks can end at the same step: after the last step that any rank has
        taken."""
        self._end_step = self._max_taken + 1
        self.changed()

    # Trainer's side

    def begin(self, attempt: int) -> Attempt:
        """The point from which start number `attempt` of the worker group continues; the same for every rank that
        asks."""
        self._enter(attempt)
        return Attempt(attempt, self._resume)

    def take(self, attempt: int, world_size: int, rank: int, step: int) -> GlobalStep | NotYet | Ended:
        """This rank's share of a step. Idempotent. Raises StaleAttempt for a reader of an earlier start."""
        self._enter(attempt)
        if self._world_size is None:
            self._world_size = world_size
        assert world_size == self._world_size, (world_size, self._world_size)
        if self._end_step is not None and step >= self._end_step:
            return Ended()
        found = self._steps.get(step)
        if found is None:
            if step < self._next_step:
                raise BohdiError(f"step {step} is covered by a committed checkpoint and its rows were freed")
            all_put = self._num_rounds is not None and self._next_round >= self._num_rounds
            return Ended() if all_put else NotYet()
        self._max_taken = max(self._max_taken, step)
        self._last_event = self._clock()
        # Another stage may encode them another way.
        anew = found.round <= self._first_round or self._training.starts_stage(found.round)
        before = () if anew else self._heldout_of_round.get(found.round - 1, frozenset())
        heldout = heldout_of_rank(found.heldout, world_size, rank)
        return replace(
            found,
            rows=tuple(share_of_rank(found.rows, world_size, rank)),
            heldout=heldout,
            new_heldout=tuple(one for one in heldout if one not in before),
        )

    def rest(
        self, attempt: int, world_size: int, rank: int, step: int
    ) -> type[GlobalStep] | type[NotYet] | type[Ended]:
        """Records that this rank holds nothing on its GPU until `step` is there; only then may it use the GPU again.
        Returns the type of the answer to `take`. A waiting rank asks repeatedly, so a restarted queue learns that it
        rests."""
        kind = type(self.take(attempt, world_size, rank, step))
        if kind is NotYet:
            self._resting.add(rank)
        else:
            self._resting.discard(rank)
        self.changed()
        return kind

    @property
    def rests(self) -> bool:
        """Whether no rank holds anything on a GPU."""
        return self._world_size is not None and len(self._resting) == self._world_size

    def ack(self, attempt: int, rank: int, step: int) -> None:
        """Records that this rank has finished a step. Frees nothing: only a COMMIT does."""
        if attempt == self._attempt:
            self._acked[rank] = max(step, self._acked.get(rank, -1))
            self._last_event = self._clock()

    def round_committed(self, state: RoundState, metrics: dict[str, Any]) -> None:
        """Records that the COMMIT of a round is durable. Repeating it changes nothing."""
        self._committed(state, metrics)
        self.changed()

    def _committed(self, state: RoundState, metrics: dict[str, Any]) -> None:
        self._last_event = self._clock()
        self._metrics[state.round] = metrics
        for round in [round for round in self._metrics if round <= state.round - METRICS_KEPT]:
            del self._metrics[round]
        self._last_committed_round = max(self._last_committed_round, state.round)
        if state.round <= self._resume.round or not (state.has_optimizer or self._training.reset_optimizer):
            self._resume = replace(self._resume, last_committed_round=self._last_committed_round)
            return
        self._resume = ResumePoint(state.round, state.next_step, state.num_optimizer_steps, self._last_committed_round)
        for step in [number for number in self._steps if number < state.next_step]:
            del self._steps[step]
        for round in [round for round in self._num_rows_of_round if round <= state.round]:
            self._num_rows_done += self._num_rows_of_round.pop(round)
            self._heldout_of_round.pop(round - 1, None)
        if state.round >= self._next_round:
            # The queue was restarted while this round was trained, and nobody needs the round's rows any more.
            self._next_round, self._next_step = state.round + 1, state.next_step

    def round_refused(self, refused: RoundRefused) -> None:
        """Records that too many of a round's rows cannot be learned from: it is not committed, and the workers end."""
        self._refused = refused

    def step_committed(self, point: ResumePoint) -> None:
        """Records that a checkpoint within a round is durable. Repeating it changes nothing."""
        self._last_event = self._clock()
        if point.next_step > self._resume.next_step:
            self._resume = replace(point, last_committed_round=self._last_committed_round)

    def _enter(self, attempt: int) -> None:
        if attempt < self._attempt:
            raise StaleAttempt(f"attempt {attempt} of the worker group is over; attempt {self._attempt} has begun")
        if attempt > self._attempt:
            self._attempt, self._world_size, self._acked = attempt, None, {}
            self._first_round = self._resume.round + 1
            self._resting = set()
            self._last_event = self._clock()

    # Watching

    def metrics(self, round: int) -> dict[str, Any]:
        """The metrics that the trainer reported for a committed round; {} if this queue has none."""
        return self._metrics.get(round, {})

    @property
    def last_committed_round(self) -> int:
        return self._last_committed_round

    def status(self) -> QueueStatus:
        drawn = self._num_rows_done + sum(self._num_rows_of_round.values())
        trained = self._num_rows_done
        trained += sum(n for r, n in self._num_rows_of_round.items() if r <= self._last_committed_round)
        queued = sum(len(s.rows) for s in self._steps.values() if s.round > self._last_committed_round)
        assert drawn == trained + queued, (drawn, trained, queued)
        done = min(self._acked.values()) if len(self._acked) == self._world_size else self._resume.next_step - 1
        return QueueStatus(
            last_committed_round=self._last_committed_round,
            next_round=self._next_round,
            num_rows_drawn=drawn,
            num_rows_trained=trained,
            num_rows_queued=queued,
            next_step=self._next_step,
            num_steps_acked=max(0, done + 1 - self._resume.next_step),
            num_steps_queued=max(0, self._next_step - max(done + 1, self._resume.next_step)),
            attempt=self._attempt,
            busy=self._next_round - 1 > self._last_committed_round and self._end_step is None,
            ends=self._num_rounds is not None or self._end_step is not None,
            idle_s=self._clock() - self._last_event,
            incarnation=self._incarnation,
            resume_round=self._resume.round,
            refused=self._refused,
            rests=self.rests,
        )
