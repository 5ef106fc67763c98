"""The figures of one round, from its outcomes or from what journal and RUN/progress.json tell of it. Pure."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from bohdi_ray.config import FusionConfig, OpenAIModel
from bohdi_ray.driver.harvest_round import HarvestResult
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.observe.source_report import summed
from bohdi_ray.observe.summary import RoundSummary
from bohdi_ray.records import Outcome, SourceCounts
from bohdi_ray.run.state import DriverState
from bohdi_ray.tree.messages import RoundClosed
from bohdi_ray.tree.record.history import RoundRecord


def round_summary(
    harvest: HarvestResult, num_rows: int, before: RoundRecord | None = None, rehearsal_tokens: int = 0
) -> RoundSummary:
    """A round's counters from its outcomes, and from what earlier drivers had committed of it. `rehearsal_tokens`:
    decoded
    for its rehearsal, questions and answers."""
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


def abandoned_since(harvest: HarvestResult, before: RoundRecord | None) -> collections.Counter[str]:
    """Walks without a domain, by reason, without those that earlier drivers had committed."""
    counts = collections.Counter(harvest.abandoned)
    return counts - before.abandoned if before else counts


def sources_of(harvest: HarvestResult) -> dict[str, SourceCounts]:
    """What became of all requests of a harvest, by source."""
    return summed([harvest.proposed, *(outcome.sources for outcome in harvest.outcomes)])


def round_record(summary: RoundSummary, harvest: HarvestResult, closed: RoundClosed) -> dict[str, Any]:
    """A harvested round as metrics.jsonl tells it."""
    counts = collections.Counter[str]()
    for outcome in harvest.outcomes:
        counts.update(outcome.counts)
    same = (
        "round",
        "weights_version",
        "tickets",
        "accepted",
        "heldout",
        "rewards",
        "reward_rate",
        "failures",
        "abandoned",
        "tokens",
    )
    return {
        **{name: getattr(summary, name) for name in same},
        "seconds": summary.seconds["harvest"],
        "requests": dict(counts),
        "sources": {source: asdict(tally) for source, tally in summary.sources.items()},
        "elections_asked": harvest.num_elections_asked,
        "invalid_names": harvest.num_invalid_names,
        "unsupported_names": harvest.num_unsupported_names,
        "reborn": [asdict(reborn) for reborn in closed.reborn],
    }


def restored_summary(
    record: RoundRecord, state: DriverState, num_rehearsed: int = 0, rehearsal_tokens: int = 0
) -> RoundSummary:
    """A closed round as the journal tells it, with what the last driver knew of its times and training, and the rows
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


class HarvestNews:
    """What of a harvest is new since it was last asked for: every outcome and token is told once."""

    def __init__(self) -> None:
        self._harvest: HarvestResult | None = None
        self._num_outcomes = 0
        self._tokens = collections.Counter[str]()

    def since_last(self, harvest: HarvestResult) -> tuple[list[tuple[str, Outcome]], collections.Counter[str]]:
        """Committed outcomes with their main domains, and tokens decoded, by role and model."""
        if harvest is not self._harvest:
            self._harvest, self._num_outcomes, self._tokens = harvest, 0, collections.Counter()
        domains, outcomes = harvest.domains[self._num_outcomes :], harvest.outcomes[self._num_outcomes :]
        tokens = harvest.model_tokens - self._tokens
        self._num_outcomes, self._tokens = len(harvest.outcomes), harvest.model_tokens.copy()
        return list(zip(domains, outcomes, strict=True)), tokens


def cost(config: FusionConfig, engines: Iterable[EngineStats]) -> float:
    """What the remote sources' tokens cost, in the currency of their prices."""
    total = 0.0
    for stats in engines:
        model = config.model(stats.name)
        if isinstance(model, OpenAIModel):
            total += stats.num_prompt_tokens * model.price_per_million_prompt_tokens / 1e6
            total += stats.num_decoded_tokens * model.price_per_million_output_tokens / 1e6
    return total


def _rehearsal(num_tokens: int) -> dict[str, int]:
    return {"rehearsal": num_tokens} if num_tokens else {}


def _failure(outcome: Outcome) -> str:
    assert outcome.failure is not None
    return outcome.failure
