"""Rates over a moving window: how often sources win in each main domain, and how much of the time a side is idle."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bohdi_ray.observe.events import QueueFigures
from bohdi_ray.observe.metric_names import MOST_DOMAINS, OTHER

WINDOW_SAMPLES = 100  # of a domain
WINDOW_S = 300.0


@dataclass(frozen=True, slots=True)
class DomainShare:
    """The figures of one domain label."""

    num_samples: int
    reward_rate: float


class DomainShares:
    """Samples by main domain. Domains are names that models chose, so only the largest keep their own label."""

    def __init__(self, most: int = MOST_DOMAINS, window: int = WINDOW_SAMPLES):
        self._most, self._window = most, window
        self._rewards: dict[str, deque[int]] = {}  # the newest of each domain
        self._num_samples: dict[str, int] = {}

    def add(self, domain: str, reward: int) -> None:
        """Adds one accepted sample."""
        self._rewards.setdefault(domain, deque(maxlen=self._window)).append(reward)
        self._num_samples[domain] = self._num_samples.get(domain, 0) + 1

    def shares(self) -> dict[str, DomainShare]:
        """By label: the domains with the most samples (ties by name), and the others together, if there are any."""
        # A domain that has the name of the others' label must not be taken for them.
        own = [domain for domain in self._num_samples if domain.lower() != OTHER]
        largest = sorted(own, key=lambda domain: (-self._num_samples[domain], domain))[: self._most]
        shares = {domain: self._share([domain]) for domain in largest}
        if rest := self._num_samples.keys() - shares.keys():
            shares[OTHER] = self._share(sorted(rest))
        return shares

    def _share(self, domains: list[str]) -> DomainShare:
        newest = [reward for domain in domains for reward in self._rewards[domain]]
        return DomainShare(sum(self._num_samples[domain] for domain in domains), sum(newest) / len(newest))


class BusyTime:
    """The share of the newest `window_s` in which something was idle, from reports of busy and idle."""

    def __init__(self, clock: Callable[[], float], window_s: float = WINDOW_S):
        self._clock, self._window_s = clock, window_s
        self._changes: deque[tuple[float, bool]] = deque()  # from when on it worked or not

    def report(self, works: bool) -> None:
        """It is busy, or idle, from now on."""
        if not self._changes or self._changes[-1][1] != works:
            self._changes.append((self._clock(), works))

    def idle_ratio(self) -> float | None:
        """Between 0 and 1, over the window or since the first report; None before any report."""
        now = self._clock()
        start = now - self._window_s
        while len(self._changes) > 1 and self._changes[1][0] <= start:
            self._changes.popleft()
        if not self._changes or now <= (begin := max(start, self._changes[0][0])):
            return None
        ends = [time for time, _ in list(self._changes)[1:]] + [now]
        idle = sum(end - max(begin, time) for (time, works), end in zip(self._changes, ends, strict=True) if not works)
        return idle / (now - begin)


class IdleRatios:
    """How much of the time harvest and training are idle."""

    def __init__(self, clock: Callable[[], float]):
        self.harvest, self.training = BusyTime(clock), BusyTime(clock)

    def harvest_is(self, busy: bool) -> None:
        """Whether a round is being harvested from now on."""
        self.harvest.report(busy)

    def queue_is(self, queue: QueueFigures | None) -> None:
        """Whether the queue has a step for the trainer, which is busy then; None changes nothing."""
        if queue is not None:
            self.training.report(queue.busy)
