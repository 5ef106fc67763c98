"""The figures of one round, computed from its harvest or from the journal and RUN/progress.json. Pure."""

from __future__ import annotations

import collections
import time
from dataclasses import dataclass, field

from bohdi_ray.observe.events import HarvestMoved, RoundHarvested
from bohdi_ray.observe.source_report import summed
from bohdi_ray.observe.summary import RoundSummary
from bohdi_ray.records import Outcome, SourceCounts
from bohdi_ray.run.state import DriverState
from bohdi_ray.tree.messages import RoundClosed
from bohdi_ray.tree.record.history import RoundRecord


@dataclass(slots=True)
class HarvestResult:
    """The results of a round's harvest; filled by the Harvester while it runs."""

    round: int
    weights_version: int
    num_tickets_issued: int = 0
    num_tickets_done: int = 0  # harvested; committed or not
    num_accepted: int = 0  # of these, before repeated questions are screened out
    num_tokens: int = 0  # decoded by what is done, proposals included
    outcomes: list[Outcome] = field(default_factory=list)  # screened, as committed
    domains: list[str] = field(default_factory=list)  # the main domain of each outcome
    model_tokens: collections.Counter[str] = field(default_factory=collections.Counter)  # decoded, by `tokens_name`
    proposed: dict[str, SourceCounts] = field(default_factory=dict)  # by source, of the requests for names
    sprout_tokens: int = 0
    num_elections_asked: int = 0
    num_invalid_names: int = 0
    num_unsupported_names: int = 0
    num_quarantined: int = 0  # requests
    abandoned: dict[str, int] = field(default_factory=dict)  # walks of the whole round without a domain, by reason
    started: float = 0.0  # time.monotonic(), s
    finished: float = 0.0
    _num_reported: int = 0  # outcomes, by `moved`
    _tokens_reported: collections.Counter[str] = field(default_factory=collections.Counter)

    @property
    def heldout_ids(self) -> list[str]:
        """Ids of the held-out samples, which are kept for evaluation."""
        return [outcome.ticket_id for outcome in self.outcomes if outcome.failure is None and outcome.heldout]

    def moved(self) -> HarvestMoved:
        """The progress so far, as an event. Each outcome and each token is reported as new in exactly one of these
        events."""
        rewards = [o.reward for o in self.outcomes if o.failure is None and o.reward is not None]
        seconds = time.monotonic() - self.started
        new = slice(self._num_reported, None)
        event = HarvestMoved(
            round=self.round,
            num_tickets_issued=self.num_tickets_issued,
            num_tickets_done=self.num_tickets_done,
            num_accepted=self.num_accepted,
            reward_rate=sum(rewards) / len(rewards) if rewards else None,
            tokens_per_s=self.num_tokens / seconds if seconds > 1 and self.num_tokens else None,
            new_outcomes=tuple(zip(self.domains[new], self.outcomes[new], strict=True)),
            new_tokens=self.model_tokens - self._tokens_reported,
        )
        self._num_reported, self._tokens_reported = len(self.outcomes), self.model_tokens.copy()
        return event


def round_summary(
    harvest: HarvestResult, num_rows: int, before: RoundRecord | None = None, rehearsal_tokens: int = 0
) -> RoundSummary:
    """A round's counters, from its outcomes and from the part of it that earlier drivers had committed.
    `rehearsal_tokens`: tokens decoded for its rehearsal, questions and answers."""
    before = before or RoundRecord(harvest.round, harvest.weights_version)
    assert before.round == harvest.round, (before, harvest.round)
    accepted = [o for o in harvest.outcomes if o.failure is None]
    tokens = collections.Counter[str]({"sprout": harvest.sprout_tokens}) + before.tokens
    for outcome in harvest.outcomes:
        tokens.update(outcome.num_tokens)
    failures = before.failures + collections.Counter(_failure(o) for o in harvest.outcomes if o.failure is not None)
    return RoundSummary(
        round=harvest.round,
        weights_version=harvest.weights_version,
        tickets=len(harvest.outcomes) + before.tickets,
        accepted=len(accepted) + before.accepted,
        heldout=sum(o.heldout for o in accepted) + before.heldout,
        rewards=sum(o.reward or 0 for o in accepted) + before.rewards,
        failures=dict(failures),
        abandoned=dict(harvest.abandoned),
        tokens={**tokens, **_rehearsal(rehearsal_tokens)},
        training_rows=num_rows,
        sources=sources_of(harvest),
        seconds={"harvest": harvest.finished - harvest.started},
    )


def sources_of(harvest: HarvestResult) -> dict[str, SourceCounts]:
    """The counts of all requests of a harvest and their results, by source."""
    return summed([harvest.proposed, *(outcome.sources for outcome in harvest.outcomes)])


def harvested_event(
    summary: RoundSummary, harvest: HarvestResult, closed: RoundClosed, before: RoundRecord | None, cost: float
) -> RoundHarvested:
    """The event that tells observers that a round is harvested."""
    requests = collections.Counter[str]()
    for outcome in harvest.outcomes:
        requests.update(outcome.counts)
    abandoned = collections.Counter(harvest.abandoned)
    return RoundHarvested(
        summary=summary,
        cost=cost,
        reborn=closed.reborn,
        new_abandoned=abandoned - before.abandoned if before else abandoned,
        requests=requests,
        num_elections_asked=harvest.num_elections_asked,
        num_invalid_names=harvest.num_invalid_names,
        num_unsupported_names=harvest.num_unsupported_names,
    )


def restored_summary(
    record: RoundRecord, state: DriverState, num_rehearsed: int = 0, rehearsal_tokens: int = 0
) -> RoundSummary:
    """The summary of a closed round from the journal, with times and training figures of the last driver, and the rows
    and tokens of its rehearsal."""
    assert record.row_sample_ids is not None
    trained = state.trained.get(record.round)
    return RoundSummary(
        round=record.round,
        weights_version=record.weights_version,
        tickets=record.tickets,
        accepted=record.accepted,
        heldout=record.heldout,
        rewards=record.rewards,
        failures=dict(record.failures),
        abandoned=dict(record.abandoned),
        tokens={**record.tokens, **_rehearsal(rehearsal_tokens)},
        training_rows=len(record.row_sample_ids) + num_rehearsed,
        rejected_rows=dict(trained.rejected_rows) if trained else {},
        training_loss=trained.training_loss if trained else None,
        heldout_loss=trained.heldout_loss if trained else None,
        seconds={
            "harvest": state.harvest_s.get(record.round, 0.0),
            **({"training": trained.seconds} if trained else {}),
        },
    )


def _rehearsal(num_tokens: int) -> dict[str, int]:
    return {"rehearsal": num_tokens} if num_tokens else {}


def _failure(outcome: Outcome) -> str:
    assert outcome.failure is not None
    return outcome.failure
