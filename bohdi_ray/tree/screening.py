"""Checks the outcomes of a step (all of its tickets, in ticket order, no question twice in a leaf) and turns them into
events. Pure.

Called by the manager before credit is given; reads the state only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bohdi_ray.errors import StepNotReady
from bohdi_ray.records import DomainPath, Outcome
from bohdi_ray.tree.record import journal
from bohdi_ray.tree.state import TreeState

DUPLICATE = "duplicate_question"


def in_ticket_order(state: TreeState, step: int, outcomes: Sequence[Outcome]) -> list[tuple[DomainPath, Outcome]]:
    """Each ticket's path and outcome. Raises StepNotReady before the step's turn, ValueError for outcomes of other
    tickets."""
    if step != state.num_committed or state.num_walked <= step:
        raise StepNotReady(f"step {step} is not the next to be committed, or its walks are not done")
    tickets = [state.ticket(step, index, path) for index, path in sorted(state.in_flight.get(step, {}).items())]
    given = {outcome.ticket_id: outcome for outcome in outcomes}
    if len(given) != len(outcomes) or given.keys() != {ticket.ticket_id for ticket in tickets}:
        raise ValueError(f"step {step} needs one outcome for each of its {len(tickets)} tickets, got {len(outcomes)}")
    return [(ticket.path, given[ticket.ticket_id]) for ticket in tickets]


def screen(state: TreeState, step: int, outcomes: Sequence[Outcome]) -> list[tuple[DomainPath, Outcome]]:
    """`in_ticket_order`, with outcomes whose question the leaf already has turned into failures."""
    seen: set[tuple[DomainPath, str]] = set()
    screened = []
    for path, outcome in in_ticket_order(state, step, outcomes):
        if outcome.failure is None:
            assert outcome.question_hash is not None, outcome
            key = (path, outcome.question_hash)
            if key in seen or state.tree.find(path).has_question(outcome.question_hash):
                outcome = replace(outcome, failure=DUPLICATE, reward=None)
            seen.add(key)
        screened.append((path, outcome))
    return screened


def events(step: int, ordered: Sequence[tuple[DomainPath, Outcome]], part: str) -> Iterator[journal.AnyEvent]:
    """The events that a commit of the step writes to the journal; `ordered` is the result of `screen`."""
    num_tokens = Counter[str]()
    for path, outcome in ordered:
        num_tokens.update(outcome.num_tokens)
        if outcome.failure is not None:
            yield journal.Failed(outcome.ticket_id, outcome.failure)
            continue
        assert outcome.question_hash is not None and outcome.reward in (0, 1), outcome
        reward = None if outcome.heldout else outcome.reward
        yield journal.Credited(outcome.ticket_id, path, outcome.question_hash, reward)
    rewards = sum(outcome.reward or 0 for _, outcome in ordered)
    yield journal.StepCommitted(step, part, rewards, dict(sorted(num_tokens.items())))
