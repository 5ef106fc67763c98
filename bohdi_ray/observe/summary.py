"""The figures of a whole run, as summary.json and the table at the end show them. Pure.

The driver fills a `Summary` from its counters, `Intervals` and the stored samples.
Nothing here reads or writes files.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bohdi_ray.engines.chat.turns import turns_of
from bohdi_ray.examples.duplicates import near_duplicate_rate
from bohdi_ray.observe.source_report import summed
from bohdi_ray.records import DomainPath, Sample, SourceCounts

PHASES = ("start_up", "harvest", "training", "weights", "overlap", "total")
Z95 = 1.959963984540054  # of a two-sided 95 % interval


@dataclass(frozen=True)
class RoundSummary:
    """One round. tickets = accepted + the failures, walks = tickets + abandoned; heldout is part of accepted."""

    round: int
    weights_version: int  # of the target that was harvested with
    tickets: int
    accepted: int
    heldout: int = 0
    rewards: int = 0  # samples a source won
    failures: dict[str, int] = field(default_factory=dict)  # failed tickets by reason
    tokens: dict[str, int] = field(default_factory=dict)  # decoded, by role
    training_rows: int = 0  # drawn for it, those included that were rejected
    training_loss: float | None = None
    heldout_loss: float | None = None  # of the weights this round trained
    seconds: dict[str, float] = field(default_factory=dict)  # by phase
    sources: dict[str, SourceCounts] = field(default_factory=dict)  # what each gave; of this driver's rounds alone
    abandoned: dict[str, int] = field(default_factory=dict)  # walks that found no domain, by reason
    rejected_rows: dict[str, int] = field(default_factory=dict)  # training rows without weight, by reason

    @property
    def reward_rate(self) -> float | None:
        """Share of accepted samples that a source won."""
        return self.rewards / self.accepted if self.accepted else None

    @property
    def walks(self) -> int:
        """Number of walks through the tree, each of which could have given a sample."""
        return self.tickets + sum(self.abandoned.values())

    @property
    def losses(self) -> dict[str, int]:
        """Number of walks that gave no sample, by reason."""
        return _added((self.failures, self.abandoned))

    @property
    def trained_rows(self) -> int:
        """Number of rows trained on; 0 while the round is not trained."""
        return self.training_rows - sum(self.rejected_rows.values()) if "training" in self.seconds else 0


@dataclass(frozen=True)
class SelfPreference:
    """Whether a source's answer wins more often when that source leads, and so judges.

    Counted over judged samples in which its answer was eligible. Leaders are drawn at random, so a difference is due to
    leading. `low` and `high` bound it with 95 % confidence (Newcombe's interval from two Wilson intervals).
    """

    wins_leading: int
    judged_leading: int
    wins_not_leading: int
    judged_not_leading: int

    @property
    def difference(self) -> float | None:
        """Win rate while leading minus win rate while not leading; None if one of them is unknown."""
        if not self.judged_leading or not self.judged_not_leading:
            return None
        return self.wins_leading / self.judged_leading - self.wins_not_leading / self.judged_not_leading

    @property
    def interval(self) -> tuple[float, float] | None:
        """(low, high) around `difference`."""
        if self.difference is None:
            return None
        return newcombe(self.wins_leading, self.judged_leading, self.wins_not_leading, self.judged_not_leading)

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval or (None, None)
        return {**dataclasses.asdict(self), "difference": self.difference, "low": low, "high": high}


@dataclass(frozen=True)
class SampleFigures:
    """Figures that need the stored samples. Computed by `figures_of` in one pass."""

    num_samples: int
    num_heldout: int
    wins: dict[str, int]  # by model, the target included
    self_preference: dict[str, SelfPreference]  # by source
    near_duplicate_rate: float | None  # share of questions nearly the same as an earlier one in their leaf
    absent: dict[str, int] = field(default_factory=dict)  # samples made without it, while it was left out; by source


@dataclass(frozen=True)
class Summary:
    """The whole run. `to_json` is the content of RUN/summary.json."""

    stop_reason: str
    rounds: tuple[RoundSummary, ...]
    samples: SampleFigures
    seconds: dict[str, float]  # by phase; see PHASES
    overlap_share: float | None  # of the shorter of harvest and training
    heldout_loss_before: float | None
    heldout_loss_after: float | None
    domains_by_level: tuple[int, ...]  # found domains, from the root's children to the leaves
    tree_digest: str
    best_version: int | None = None
    failed_because: str | None = None  # why the run is no success although a stop rule ended it
    paths: dict[str, str] = field(default_factory=dict)  # what was written where
    evaluated: dict[int, float] = field(default_factory=dict)  # mean score over the tasks of `evaluate`, by version
    num_sure: int = 0  # places of a fixed text at which the target was sure of the next token before the fusion
    num_lost: int = 0  # of these, where it says another one now

    @property
    def num_accepted(self) -> int:
        return sum(round.accepted for round in self.rounds)

    @property
    def reward_rate(self) -> float | None:
        """Share of all accepted samples that a source won."""
        return sum(round.rewards for round in self.rounds) / self.num_accepted if self.num_accepted else None

    @property
    def sources(self) -> dict[str, SourceCounts]:
        """The counts of the requests to each source, in the rounds of the last driver."""
        return summed(round.sources for round in self.rounds)

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens decoded in the whole run, by role."""
        return _added(round.tokens for round in self.rounds)

    @property
    def failures(self) -> dict[str, int]:
        """Failed tickets of the whole run, by reason."""
        return _added(round.failures for round in self.rounds)

    @property
    def abandoned(self) -> dict[str, int]:
        """Walks of the whole run that found no domain, by reason."""
        return _added(round.abandoned for round in self.rounds)

    @property
    def losses(self) -> dict[str, int]:
        """Number of walks of the whole run that gave no sample, by reason."""
        return _added(round.losses for round in self.rounds)

    @property
    def rejected_rows(self) -> dict[str, int]:
        """Training rows of the whole run without weight, by reason."""
        return _added(round.rejected_rows for round in self.rounds)

    @property
    def tokens_per_accepted_sample(self) -> dict[str, float | None]:
        """Tokens decoded per accepted sample, by role, including the tokens of failed tickets."""
        return {role: n / self.num_accepted if self.num_accepted else None for role, n in self.tokens.items()}

    @property
    def heldout_loss_fall(self) -> float | None:
        """1 - after / before."""
        if self.heldout_loss_before is None or self.heldout_loss_after is None or self.heldout_loss_before == 0:
            return None
        return 1 - self.heldout_loss_after / self.heldout_loss_before

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; numbers that are not finite become None."""
        record = {
            "stop_reason": self.stop_reason,
            "heldout_loss_before": self.heldout_loss_before,
            "heldout_loss_after": self.heldout_loss_after,
            "heldout_loss_fall": self.heldout_loss_fall,
            "sure_tokens_before": self.num_sure,
            "sure_tokens_lost": self.num_lost,
            "evaluated": {str(version): mean for version, mean in self.evaluated.items()},
            "failed_because": self.failed_because,
            "rounds": [
                {**dataclasses.asdict(r), "reward_rate": r.reward_rate, "trained_rows": r.trained_rows}
                for r in self.rounds
            ],
            "num_samples": self.samples.num_samples,
            "num_heldout": self.samples.num_heldout,
            "reward_rate": self.reward_rate,
            "wins": self.samples.wins,
            "absent": self.samples.absent,
            "sources": {source: dataclasses.asdict(tally) for source, tally in self.sources.items()},
            "self_preference": {name: p.to_json() for name, p in self.samples.self_preference.items()},
            "near_duplicate_rate": self.samples.near_duplicate_rate,
            "failures": self.failures,
            "losses": self.losses,
            "rejected_rows": self.rejected_rows,
            "tokens": self.tokens,
            "tokens_per_accepted_sample": self.tokens_per_accepted_sample,
            "seconds": self.seconds,
            "overlap_share": self.overlap_share,
            "domains_by_level": list(self.domains_by_level),
            "tree_digest": self.tree_digest,
            "best_version": self.best_version,
            "paths": self.paths,
        }
        return _finite(record)


def figures_of(samples: Iterable[Sample], models: Iterable[str], target: str) -> SampleFigures:
    """Everything a summary needs from the stored samples. `models` are the sources; `target` is the target's name."""
    sources = list(models)
    wins: Counter[str] = Counter(dict.fromkeys([*sources, target], 0))
    counts = {source: [0, 0, 0, 0] for source in sources}
    absent = dict.fromkeys(sources, 0)
    questions: dict[DomainPath, list[str]] = {}
    num_samples = num_heldout = 0
    for sample in samples:
        num_samples += 1
        num_heldout += sample.heldout
        wins[sample.verdict.winner] += 1
        if len(sample.verdict.scores) > 1:
            for source in counts.keys() & sample.verdict.scores.keys():
                place = 0 if sample.leader == source else 2
                counts[source][place] += sample.verdict.winner == source
                counts[source][place + 1] += 1
        for source in counts.keys() - {candidate.model for candidate in sample.candidates}:
            absent[source] += 1
        questions.setdefault(sample.path, []).append(turns_of(sample.question)[-1].text)
    return SampleFigures(
        num_samples=num_samples,
        num_heldout=num_heldout,
        wins=dict(wins),
        self_preference={source: SelfPreference(*count) for source, count in counts.items()},
        near_duplicate_rate=near_duplicate_rate(questions) if num_samples else None,
        absent=absent,
    )


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion."""
    p, n = successes / trials, trials
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def newcombe(successes_1: int, trials_1: int, successes_2: int, trials_2: int) -> tuple[float, float]:
    """95 % interval of the difference of two proportions (Newcombe 1998, method 10)."""
    p1, p2 = successes_1 / trials_1, successes_2 / trials_2
    low_1, high_1 = wilson(successes_1, trials_1)
    low_2, high_2 = wilson(successes_2, trials_2)
    low = p1 - p2 - math.hypot(p1 - low_1, high_2 - p2)
    high = p1 - p2 + math.hypot(high_1 - p1, p2 - low_2)
    return max(-1.0, low), min(1.0, high)


def by_reason(counts: Mapping[str, int]) -> str:
    """`2 no_eligible_answer, 3 no_valid_name`; `none` if there are none."""
    return ", ".join(f"{n} {reason}" for reason, n in sorted(counts.items())) or "none"


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
