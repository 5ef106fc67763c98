"""How many replicas a pool should have: a pure function of what is seen of the pool. The driver's pools execute it.

At every look the driver hands `decide` one `Look` and the state of the decision before. A need is counted in replicas:
the requests in flight over what one replica takes at full speed, and half as many again as serve now when requests wait
for their turn although there seems to be room. A pool grows to what most looks of the last `grow_after_s` needed, and
shrinks to the most that any look of the last `shrink_after_s` needed (the two stabilization windows of Kubernetes'
horizontal pod autoscaler, with a median instead of the minimum for growth, because every ticket's question and
judgement leave gaps in the load of a model).

While the harvest waits for the trainer an empty pool says nothing about the load: those looks leave no trace in the
windows. If the trainer is what limits the run, growing would only lengthen that wait, so nothing grows; in that wait
the pool gives back what the round did not need on average.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field, replace
from typing import Literal

Side = Literal["harvest", "training"]

# A pool shrinks to a size at which its load fills at most this share of it. The load must then rise by a third before
# the pool grows again, which is more than the number of requests in flight varies within a steady harvest.
SHRINK_FILL = 0.75
# Replicas added, as a share of those that serve, when requests wait although in-flight counts say there is room (long
# prompts fill the KV cache, say). How many are missing is unknown then: half more reaches any size in a few decisions
# and is too much by a third of the pool at most.
GROW_ON_WAIT = 0.5
# Share of a round that the harvest must wait for weights before training counts as what limits the run. Below it, the
# wait is the boundary itself: rows queued, weights committed, loaded and proved.
TRAINING_LIMITS = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pool may be. `slots_per_replica`: requests that one replica works on at a time at full speed."""

    min_replicas: int
    max_replicas: int
    slots_per_replica: int

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas or self.slots_per_replica < 1:
            raise ValueError(f"needs 1 <= min_replicas <= max_replicas and slots_per_replica >= 1, got {self}")


@dataclass(frozen=True, slots=True)
class Tempo:
    """How long a load must last before it is answered, s.

    `grow_after_s`: the window in which most looks must need more, so more than half of it is enough. An engine takes
    25 s and more to start: 5 to 10 s to be sure add little, and a burst that is shorter would be over before the new
    engine serves. `shrink_after_s`: an engine that is ended and wanted again costs its start and, on a cluster that
    scales, a node's; two minutes of surplus cost less. `cooldown_s`: between two changes of one pool, so that each is
    decided from looks that show the one before. `tolerated_wait_s`: a mean wait for a turn up to this is what the
    uneven choice of replicas by many tasks causes, not a lack of engines.
    """

    grow_after_s: float = 10.0
    shrink_after_s: float = 120.0
    cooldown_s: float = 30.0
    tolerated_wait_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen of one pool at one moment."""

    now_s: float  # any monotonic clock; never before the look before
    num_serving: int  # replicas in the routing table
    num_starting: int  # asked for and not serving yet, waiting for room included
    num_draining: int  # out of the table, ending once their requests are answered; they still hold their room
    in_flight: int  # requests that the serving replicas have and have not answered, waiting ones included
    queue_wait_s: float  # mean time that requests begun since the look before waited for their turn; 0 if none did
    idle_s: float  # since the pool last had a request in flight; 0 while it has one
    limiting_side: Side  # as `limiting_side` says of the last whole round; "harvest" before there is one
    harvest_waits: bool  # the harvest waits for the trainer: no tickets are out, whatever the load
    round: int  # the round that is harvested or waited for

    @property
    def size(self) -> int:
        """Replicas that serve or will."""
        return self.num_serving + self.num_starting


@dataclass(frozen=True, slots=True)
class Need:
    """What one look needed, in replicas."""

    clock_s: float  # of the time in which the harvest did not wait
    to_grow: int
    to_shrink: int


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What `decide` remembers of one pool. A new one, also after a resume, knows nothing and waits out its windows."""

    needs: tuple[Need, ...] = ()  # of the last `shrink_after_s`, oldest first, and one more before
    clock_s: float = 0.0
    looked_s: float | None = None
    changed_s: float = -math.inf
    round: int = -1
    round_s: float = 0.0  # seen of the present round
    busy_s: float = 0.0  # replica-seconds needed in it
    mean_need: float | None = None  # replicas, over the last round and its wait for the trainer


@dataclass(frozen=True, slots=True)
class Decision:
    """`replicas` is the size (serving and starting) to bring the pool to now, in [min_replicas, max_replicas]."""

    replicas: int
    reason: str  # for people; empty if nothing is to change
    state: ScalingState = field(repr=False)


def limiting_side(harvest_wait_s: float, round_s: float, max_staleness: int) -> Side:
    """Which side a faster harvest would still help, from the last whole round.

    `harvest_wait_s`: how long the harvest waited for weights of that round's `round_s` (harvest and wait together).
    With `max_staleness` 0 the two sides alternate, and a faster harvest shortens every round whatever the other side
    takes.
    """
    if max_staleness == 0 or round_s <= 0:
        return "harvest"
    return "training" if harvest_wait_s / round_s > TRAINING_LIMITS else "harvest"


def decide(limits: Limits, tempo: Tempo, state: ScalingState, look: Look) -> Decision:
    """The size for the pool after this look. Idempotent in effect: what was decided before is in `look.num_starting`.

    Never outside [min, max]: a size outside is brought back at once, whatever else holds. Otherwise grows only while
    the harvest limits the run, and never shrinks below what the requests in flight need. Raises ValueError when time
    runs backwards.
    """
    state = _remember(limits, tempo, state, look)
    wanted, reason = _wanted(limits, tempo, state, look)
    if wanted == look.size:
        return Decision(wanted, "", state)
    return Decision(wanted, reason, replace(state, changed_s=look.now_s))


def _wanted(limits: Limits, tempo: Tempo, state: ScalingState, look: Look) -> tuple[int, str]:
    size = look.size
    if size < limits.min_replicas:
        return limits.min_replicas, f"at least {limits.min_replicas} by configuration"
    if size > limits.max_replicas:
        return limits.max_replicas, f"at most {limits.max_replicas} by configuration"
    if look.now_s - state.changed_s < tempo.cooldown_s:
        return size, ""
    if look.harvest_waits:
        return _while_waiting(limits, state, look)
    window = [need.to_grow for need in state.needs if need.clock_s >= state.clock_s - tempo.grow_after_s]
    if look.limiting_side == "harvest" and _covered(state, tempo.grow_after_s):
        # What drains holds its room until it has ended.
        room = max(size, limits.max_replicas - look.num_draining)
        needed = min(statistics.median_low(window), room)
        if needed > size:
            return needed, f"{look.in_flight} requests in flight, {look.queue_wait_s:.1f} s wait for a turn"
    if _covered(state, tempo.shrink_after_s):
        needed = max(limits.min_replicas, *(need.to_shrink for need in state.needs))
        if needed < size:
            return needed, f"{needed} were enough for the last {tempo.shrink_after_s:g} s"
    return size, ""


def _while_waiting(limits: Limits, state: ScalingState, look: Look) -> tuple[int, str]:
    """Training limits the run: the size at which the last round's work still leaves the harvest some wait."""
    if look.limiting_side == "training" and state.mean_need is not None:
        fitting = math.ceil(state.mean_need / SHRINK_FILL)
        needed = max(limits.min_replicas, fitting, _filled(look.in_flight, limits.slots_per_replica))
        if needed < look.size:
            return needed, f"training limits the run, and its last round needed {state.mean_need:.1f} on average"
    return look.size, ""


def _remember(limits: Limits, tempo: Tempo, state: ScalingState, look: Look) -> ScalingState:
    """The state with this look in it."""
    seconds = 0.0 if state.looked_s is None else look.now_s - state.looked_s
    if seconds < 0:
        raise ValueError(f"a look at {look.now_s} s after one at {state.looked_s} s")
    if look.round != state.round:
        mean = state.busy_s / state.round_s if state.round_s > 0 else None
        state = replace(state, round=look.round, round_s=0.0, busy_s=0.0, mean_need=mean)
    busy = min(look.in_flight / limits.slots_per_replica, float(look.num_serving))
    state = replace(state, looked_s=look.now_s, round_s=state.round_s + seconds, busy_s=state.busy_s + busy * seconds)
    if look.harvest_waits:
        return state
    clock_s = state.clock_s + seconds
    was_busy = look.idle_s < seconds  # since the look before, even if nothing is in flight now
    by_wait = 0
    if look.queue_wait_s > tempo.tolerated_wait_s:
        by_wait = look.num_serving + math.ceil(GROW_ON_WAIT * look.num_serving)
    need = Need(
        clock_s,
        max(by_wait, _filled(look.in_flight, limits.slots_per_replica)),
        max(by_wait, _filled(look.in_flight, SHRINK_FILL * limits.slots_per_replica), int(was_busy)),
    )
    needs = (*state.needs, need)
    horizon_s = clock_s - max(tempo.shrink_after_s, tempo.grow_after_s)
    # One look at or before the horizon stays: it says that the window is covered.
    first = max((i for i, one in enumerate(needs) if one.clock_s <= horizon_s), default=0)
    return replace(state, clock_s=clock_s, needs=needs[first:])


def _covered(state: ScalingState, seconds: float) -> bool:
    return bool(state.needs) and state.clock_s - state.needs[0].clock_s >= seconds


def _filled(in_flight: int, slots: float) -> int:
    return math.ceil(in_flight / slots)
