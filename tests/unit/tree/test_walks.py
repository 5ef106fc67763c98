import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta as beta_law
from scripted_fusion import make_config

from bohdi_ray.records import Outcome, Proposals
from bohdi_ray.tree.manager import TreeManager


class ByHand:
    """A manager of one-level trees and one-step rounds, answered by hand."""

    def __init__(self, num_walks=1, depth=1, seeds=None, **sections):
        sections.setdefault("tree", {"depth": depth})
        sections.setdefault("sprout", {"reuse_ballots": False, "requests_ahead": 0})
        self.manager = TreeManager(make_config(meditation={"steps": 1, "walks_per_step": num_walks}, **sections), seeds)

    def answer(self, *names):
        (request,) = self.manager.work(0).sprouts
        self.manager.propose(Proposals(request.request_id, names, 0, 0))

    def next_round(self):
        work = self.manager.work(0)
        outcomes = [Outcome(t.ticket_id, failure="none") for t in work.tickets]
        self.manager.commit_step(0, outcomes, "")
        self.manager.close_round(work.round + 1, 0)

    @property
    def root(self):
        return self.manager.describe()


def test_a_new_child_starts_at_even_odds_and_unk_is_credited():
    hand = ByHand(depth=2)
    hand.answer("Science")
    (science,) = hand.root["children"]
    assert (science["alpha"], science["beta"], science["window"], science["unk"]) == (
        *(1, 1, []),
        {"alpha": 1, "beta": 1},
    )
    assert hand.root["unk"] == {"alpha": 2, "beta": 1}
    assert hand.manager.work(0).sprouts[0].path == ("Science",), "the walk goes on from the new child"
    assert hand.manager.work(0).sprouts[0].leaf
    hand.answer("Physics")
    (physics,) = hand.root["children"][0]["children"]
    assert physics["unk"] is None
    (ticket,) = hand.manager.work(0).tickets
    assert (ticket.path, ticket.ticket_id) == (("Science", "Physics"), "r0000-s000-t00000")


def test_a_failed_sprout_counts_against_unk_and_the_node_draws_again():
    hand = ByHand()
    hand.answer()
    assert hand.root["unk"] == {"alpha": 1, "beta": 2}
    assert hand.manager.work(0).sprouts[0].election == 1
    hand.answer("Unknown")  # an invalid name is no name, whoever sends it
    hand.answer("Science")
    assert hand.root["unk"] == {"alpha": 2, "beta": 3}
    assert hand.manager.stats()["num_invalid_proposals"] == 1


def test_after_ten_failures_unk_is_closed_and_a_walk_without_a_child_is_abandoned():
    hand = ByHand(num_walks=2)
    for _ in range(10):
        assert hand.manager.work(0).abandoned_for == {}
        hand.answer()
    work = hand.manager.work(0)
    assert (sum(work.abandoned_for.values()), work.tickets, work.sprouts) == (2, (), ())
    assert hand.manager._state.num_walked == 1
    assert hand.root["unk"] == {"alpha": 1, "beta": 11}
    hand.next_round()
    assert hand.manager.work(0).sprouts, "the next round tries again"


def test_a_walk_that_cannot_sprout_takes_the_best_child():
    hand = ByHand(
        num_walks=40, seeds=["Science"], sprout={"max_failures": 2, "reuse_ballots": False, "requests_ahead": 0}
    )
    while hand.manager.work(0).sprouts:
        hand.answer("Science")
    work = hand.manager.work(0)
    assert [ticket.path for ticket in work.tickets] == [("Science",)] * 40
    assert hand.manager.stats()["num_failed_sprouts"] >= 2


def test_at_its_limit_of_children_a_node_sprouts_no_more():
    hand = ByHand(num_walks=60, tree={"depth": 1, "max_children": (2,)})
    hand.answer("Science")
    hand.answer("Arts")
    work = hand.manager.work(0)
    assert not work.sprouts and len(work.tickets) == 60
    assert {ticket.path for ticket in work.tickets} == {("Science",), ("Arts",)}


def test_the_next_sprout_at_a_node_is_asked_ahead_and_its_answer_used_when_its_turn_comes():
    hand = ByHand(num_walks=30, sprout={"reuse_ballots": False, "requests_ahead": 2})
    manager = hand.manager
    first, second, third = manager.work(0).sprouts
    assert [request.election for request in (first, second, third)] == [0, 1, 2]
    assert first == manager.work(0).sprouts[0]
    manager.propose(Proposals(second.request_id, ("Arts",), 0, 0))
    assert hand.root["children"] == []
    manager.propose(Proposals(first.request_id, ("Science",), 0, 0))
    manager.propose(Proposals(first.request_id, ("Sport",), 0, 0))
    assert [child["name"] for child in hand.root["children"]] == ["Science", "Arts"]
    assert manager.work(0).sprouts[0] == third


def test_a_walk_holds_back_only_those_behind_it_at_its_node():
    seeds = {"Science": ["Physics"], "Arts": ["Music"]}
    hand = ByHand(num_walks=60, tree={"depth": 2, "max_children": (2, 9)}, seeds=seeds)
    manager = hand.manager

    def arrived(name):
        return [ticket.index for ticket in manager.work(0).tickets if ticket.path[0] == name]

    before = arrived("Science"), arrived("Arts")
    while any(request.path == ("Arts",) for request in manager.work(0).sprouts):
        request = next(request for request in manager.work(0).sprouts if request.path == ("Arts",))
        manager.propose(Proposals(request.request_id, (), 0, 0))
    assert arrived("Science") == before[0], "nobody answered there"
    assert arrived("Arts") == sorted(arrived("Arts")) and len(arrived("Arts")) > len(before[1])
    assert [request.path for request in manager.work(0).sprouts] == [("Science",)]
    assert manager._state.num_walked == 0


def test_an_answer_nobody_can_have_asked_for_is_refused_and_one_for_an_unknown_node_ignored():
    hand = ByHand(seeds=["Science"])
    for request_id in ("judge/0", "sprout/x", "sprout/Science/0"):
        with pytest.raises(ValueError):
            hand.manager.propose(Proposals(request_id, ("Arts",), 0, 0))
    digest = hand.manager.digest()
    hand.manager.propose(Proposals("sprout/Nowhere/0", ("Arts",), 0, 0))
    assert hand.manager.digest() == digest


def test_cursors_go_on_and_zero_means_this_round():
    hand = ByHand(num_walks=5, tree={"depth": 1, "max_children": (1,)}, seeds=["Science"])
    work = hand.manager.work(0)
    assert len(work.tickets) == 5 and hand.manager.work(work.cursor).tickets == ()
    assert hand.manager.work(3).tickets == work.tickets[3:]
    hand.next_round()
    assert [t.round for t in hand.manager.work(work.cursor).tickets] == [1] * 5
    assert hand.manager.work(0) == hand.manager.work(2)  # an old cursor reads from the start of the round
    assert hand.manager.work(99).tickets == hand.manager.work(0).tickets  # so does one of a process that is gone


def test_walks_follow_thompson_sampling():
    """Shares of three arms over 4,000 walks against P(arm is largest) by integration, within four standard errors."""
    num_walks = 4000
    hand = ByHand(num_walks=num_walks, tree={"depth": 1, "max_children": (3,)}, seeds=["A", "B", "C"])
    arms = hand.manager._state.tree.root.arms
    posteriors = [(3, 2), (1, 1), (8, 9)]
    arms.alpha[1:4], arms.beta[1:4] = np.array(posteriors, float).T
    tickets = hand.manager.work(0).tickets
    for number, name in enumerate("ABC"):
        others = [law for index, law in enumerate(posteriors) if index != number]
        expected, _ = quad(
            lambda x, n=number, o=others: (
                beta_law.pdf(x, *posteriors[n]) * np.prod([beta_law.cdf(x, *law) for law in o])
            ),
            0,
            1,
        )
        share = sum(ticket.path == (name,) for ticket in tickets) / num_walks
        assert abs(share - expected) < 4 * (expected * (1 - expected) / num_walks) ** 0.5
