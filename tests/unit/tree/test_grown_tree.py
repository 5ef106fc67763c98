"""A tree that is grown already: every ticket of a leaf has a place, a leaf that is used up draws no walks, and a
restart at any commit point gives the same tickets."""

from __future__ import annotations

from collections import defaultdict

import pytest
from scripted_fusion import make_config, snapshot_of

from bohdi_ray.records import Outcome, Ticket
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.names import Grown
from bohdi_ray.tree.walks import USED_UP

LEAVES = Grown({("Arts", "Other"): 7, ("Arts", "Music"): 3, ("Law", "Other"): 5})
WALKS, STEPS = 4, 2
KINDS = ["uniform", "dynamic_thompson", "dynabranches"]


def config_of(kind: str, step_lag: int):
    sections = {
        "tree": {"depth": 2},
        "meditation": {"steps": STEPS, "walks_per_step": WALKS},
        "harvest": {"step_lag": step_lag},
        "bandit": {"kind": kind},
    }
    return make_config(**sections)


def outcome(ticket: Ticket) -> Outcome:
    """Every third place gives no sample: a row is used up all the same."""
    if ticket.place % 3 == 2:
        return Outcome(ticket.ticket_id, failure="no_eligible_answer")
    return Outcome(ticket.ticket_id, reward=ticket.place % 2, question_hash=f"{ticket.path}{ticket.place}")


def run(kind: str, step_lag: int, rounds: int, crash: str | None = None) -> tuple[list[Ticket], TreeManager]:
    """All tickets of some rounds; with `crash` the manager is made anew after every commit."""
    config = config_of(kind, step_lag)
    manager, tickets, segments = TreeManager(config, LEAVES), {}, []
    for round in range(rounds):
        while manager.num_steps_left:
            work = manager.work(0)
            assert not work.sprouts
            tickets |= {ticket.ticket_id: ticket for ticket in work.tickets}
            step = manager.committable()
            of_step = [ticket for ticket in work.tickets if ticket.step == step]
            manager.commit_step(step, manager.screen(step, [outcome(ticket) for ticket in of_step]), "part")
            segments.append(manager.take_segment())
            if crash == "journal":
                manager = TreeManager.replay(config, LEAVES, segments)
            elif crash == "snapshot":
                manager = TreeManager.restore(config, snapshot_of(manager), seeds=LEAVES)
        manager.close_round(round + 1, round + 1)
        segments.append(manager.take_segment())
    return list(tickets.values()), manager


@pytest.mark.parametrize("step_lag", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_drawn_once_in_order_and_then_no_walk_finds_a_domain(kind, step_lag):
    tickets, manager = run(kind, step_lag, rounds=3)
    places = defaultdict(list)
    for ticket in tickets:
        places[ticket.path].append(ticket.place)
    assert places == {leaf: list(range(count)) for leaf, count in LEAVES.tickets.items()}
    assert manager.stats()["num_left"] == 0
    assert manager.stats()["num_abandoned"] == 3 * STEPS * WALKS - sum(LEAVES.tickets.values())
    assert set(manager.work(0).abandoned_for) <= {USED_UP}


@pytest.mark.parametrize("crash", ["journal", "snapshot"])
@pytest.mark.parametrize("step_lag", [0, 1])
def test_a_manager_made_anew_at_any_commit_issues_the_same_tickets(crash, step_lag):
    tickets, manager = run("dynamic_thompson", step_lag, rounds=2)
    again, made_anew = run("dynamic_thompson", step_lag, rounds=2, crash=crash)
    assert again == tickets and made_anew.digest() == manager.digest()


def test_a_name_may_stand_in_several_domains_and_a_tree_that_grows_has_no_places():
    assert TreeManager(config_of("uniform", 0), LEAVES).tree.domains_by_level() == (2, 3)
    manager = TreeManager(make_config(), None)
    assert manager.stats()["num_left"] is None
