"""Credit (method, section 5).

5.1   test_a_reward_adds_r_to_alpha_and_1_minus_r_to_beta_of_every_node_of_the_path_and_of_no_other
5.2   test_the_window_of_every_node_of_the_path_holds_its_last_w_rewards_in_order
5.3   test_every_node_of_the_path_counts_the_sample
5.4   test_the_root_has_neither_posterior_nor_window
5.5   test_credit_never_touches_unk
5.6   test_failed_tickets_and_repeated_questions_give_neither_sample_nor_credit
5.7   test_a_held_out_sample_is_counted_but_gives_no_credit
"""

import numpy as np
import pytest
from method_by_hand import CHAIN, LEAF, ONE_CHILD, ByHand, described, failed, posterior, rewards_on_a_chain, sample

START = {"Aa": {"Ba": ["Ca", "Cb"], "Bb": ["Cc"]}, "Ab": {"Bc": ["Cd"]}}
FULL = {"depth": 3, "max_children": (2, 2, 2)}
ON_PATH = [LEAF[:1], LEAF[:2], LEAF]


def credited(num_walks: int = 60, window: int = 5) -> tuple[ByHand, dict[str, int], list]:
    """One step on a tree that cannot grow at two nodes; rewards by a rule; the tickets in order."""
    many = {"steps": 1, "walks_per_step": num_walks}
    hand = ByHand(START, tree=FULL, meditation=many, bandit={"window": window})
    names = iter(f"New {letter}" for letter in "BCDEFGHIJK")
    hand.answer_all(lambda request: [next(names)])
    tickets = sorted(hand.tickets(), key=lambda ticket: ticket.index)  # those that waited were issued later
    rewards = {t.ticket_id: int(np.random.default_rng(t.index).random() < 0.6) for t in tickets}
    return hand, rewards, tickets


def test_a_reward_adds_r_to_alpha_and_1_minus_r_to_beta_of_every_node_of_the_path_and_of_no_other():
    hand, rewards, tickets = credited()
    before = described(hand.manager)
    credit = {t.ticket_id for t in tickets if t.path[:2] != ("Aa", "Ba")}  # the others fail
    hand.commit(
        lambda ticket: sample(ticket, rewards[ticket.ticket_id]) if ticket.ticket_id in credit else failed(ticket)
    )
    after = described(hand.manager)
    for path in after:
        through = [t for t in tickets if path and t.path[: len(path)] == path and t.ticket_id in credit]
        own = [rewards[t.ticket_id] for t in through]
        assert posterior(before[path]) == (1, 1)
        assert posterior(after[path]) == (1 + sum(own), 1 + len(own) - sum(own)), path
        if path[:2] == ("Aa", "Ba"):
            assert posterior(after[path]) == (1, 1), "a sibling's credit"
    assert len({t.path for t in tickets if t.ticket_id in credit}) >= 3 and len(credit) < len(tickets)


def test_the_window_of_every_node_of_the_path_holds_its_last_w_rewards_in_order():
    hand, rewards, tickets = credited(window=5)
    hand.commit(lambda ticket: sample(ticket, rewards[ticket.ticket_id]))
    for path, node in described(hand.manager).items():
        own = [rewards[t.ticket_id] for t in tickets if path and t.path[: len(path)] == path]
        assert node["window"] == own[-5:], path
    assert len(described(hand.manager)["Aa",]["window"]) == 5
    # Rewards come in ticket order, whatever order the outcomes came in, and go on over steps.
    hand = ByHand(CHAIN, tree=ONE_CHILD, bandit={"window": 4}, meditation={"steps": 2, "walks_per_step": 3})
    for step, marks in enumerate(([1, 0, 1], [1, 0, 0])):
        outcomes = [sample(ticket, marks[ticket.index]) for ticket in hand.tickets(step)]
        hand.manager.commit_step(step, hand.manager.screen(step, outcomes[::-1])[::-1], "part")
    assert [hand.node(*path)["window"] for path in ON_PATH] == [[1, 1, 0, 0]] * 3


def test_every_node_of_the_path_counts_the_sample():
    hand, rewards, tickets = credited()
    hand.commit(lambda ticket: sample(ticket, rewards[ticket.ticket_id]))
    for path, node in described(hand.manager).items():
        assert node["num_samples"] == sum(t.path[: len(path)] == path for t in tickets), path


def test_the_root_has_neither_posterior_nor_window():
    hand = rewards_on_a_chain([1, 1, 0])
    root = hand.node()
    assert posterior(root) == (1, 1) and root["window"] == [] and root["num_samples"] == 3


def test_credit_never_touches_unk():
    hand, rewards, _ = credited()
    unk = {path: node["unk"] for path, node in described(hand.manager).items()}
    hand.commit(lambda ticket: sample(ticket, rewards[ticket.ticket_id]))
    assert {path: node["unk"] for path, node in described(hand.manager).items()} == unk
    assert any(arm is not None and arm != {"alpha": 1, "beta": 1} for arm in unk.values())


@pytest.mark.parametrize("outcome", [failed, lambda ticket: sample(ticket, 1, question="the same")])
def test_failed_tickets_and_repeated_questions_give_neither_sample_nor_credit(outcome):
    hand = ByHand(CHAIN, tree=ONE_CHILD, meditation={"steps": 2, "walks_per_step": 4})
    hand.commit(lambda ticket: sample(ticket, 1, question="the same"), 0)
    before = described(hand.manager)
    assert [before[path]["num_samples"] for path in ON_PATH] == [1, 1, 1], "one of four: the others repeat it"
    hand.commit(outcome, 1)
    assert described(hand.manager) == before
    counts = hand.manager.stats()
    assert (counts["num_committed"], sum(counts["num_failed"].values())) == (1, 7)


def test_a_held_out_sample_is_counted_but_gives_no_credit():
    hand = ByHand(CHAIN, tree=ONE_CHILD, meditation={"steps": 1, "walks_per_step": 4})
    hand.commit(lambda ticket: sample(ticket, 1, heldout=ticket.index % 2 == 0))
    for path in ON_PATH:
        node = hand.node(*path)
        assert (posterior(node), node["window"]) == ((3, 1), [1, 1])
        assert (node["num_samples"], node["trainable"]) == (4, 2)
