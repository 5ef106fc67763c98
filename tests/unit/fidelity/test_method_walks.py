"""The tree and one walk (method, sections 1 and 2).

1.1   test_a_tree_has_any_depth_from_one_on_and_three_by_default
1.2   test_every_node_above_the_leaves_has_one_unk_and_a_leaf_none
1.3   test_every_domain_and_every_unk_starts_at_beta_1_1_and_the_root_is_no_arm
1.4   test_a_new_domain_has_an_empty_window_and_no_samples
2.2   test_a_new_child_starts_at_beta_1_1_with_its_own_unk_unless_it_is_a_leaf
2.3   test_success_adds_exactly_one_to_the_alpha_of_the_unk_used
2.4   test_after_a_success_the_walk_goes_on_from_the_new_child
2.5   test_failure_adds_exactly_one_to_the_beta_of_unk_and_the_node_draws_again
2.6   test_after_max_failures_of_one_walk_unk_is_closed_and_the_walk_takes_a_child
2.7   test_a_closed_unk_stays_closed_for_all_walks_of_the_round_and_opens_in_the_next
2.8   test_a_walk_without_name_and_child_is_abandoned_and_counted
2.9   test_failures_are_counted_per_walk_and_node
"""

import pytest
from method_by_hand import LEAF, ByHand, described, failed, make_config, posterior

from bohdi_ray.tree.manager import TreeManager

NAMES = [f"{head}{tail}" for head in "BCDFGHKLMNPRSTVWXZ" for tail in "abcdefghijklmn"]


def grown(depth: int, num_walks: int = 12) -> ByHand:
    """A tree of one step's walks, every election answered with a new name."""
    hand = ByHand(tree={"depth": depth}, meditation={"steps": 1, "walks_per_step": num_walks})
    names = iter(NAMES)
    hand.answer_all(lambda request: [next(names)])
    return hand


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_a_tree_has_any_depth_from_one_on_and_three_by_default(depth):
    hand = grown(depth)
    assert {len(ticket.path) for ticket in hand.tickets()} == {depth}
    assert max(len(path) for path in described(hand.manager)) == depth
    assert make_config().tree.depth == 3


def test_every_node_above_the_leaves_has_one_unk_and_a_leaf_none():
    nodes = described(grown(3).manager)
    assert {len(path) for path in nodes} == {0, 1, 2, 3}
    for path, node in nodes.items():
        assert (node["unk"] is None) == (len(path) == 3)
        assert len(path) < 3 or node["children"] == []


def test_every_domain_and_every_unk_starts_at_beta_1_1_and_the_root_is_no_arm():
    # Domains a user starts with are domains like others.
    manager = TreeManager(make_config(), {"Aa": {"Bb": ["Cc", "Cd"]}, "Ab": None})
    nodes = described(manager)
    assert len(nodes) == 6
    for path, node in nodes.items():
        assert posterior(node) == (1, 1)
        assert len(path) == 3 or node["unk"] == {"alpha": 1, "beta": 1}
    hand = grown(3)
    hand.commit(failed)
    assert all(posterior(node) == (1, 1) for node in described(hand.manager).values()), "nothing was credited"


def test_a_new_domain_has_an_empty_window_and_no_samples():
    for node in described(grown(3).manager).values():
        assert (node["window"], node["num_samples"], node["trainable"]) == ([], 0, 0)


def test_a_new_child_starts_at_beta_1_1_with_its_own_unk_unless_it_is_a_leaf():
    hand = ByHand(tree={"depth": 2})
    hand.answer()
    hand.answer("Aa")
    hand.answer("Bb")
    nodes = described(hand.manager)
    assert posterior(nodes["Aa",]) == posterior(nodes["Aa", "Bb"]) == (1, 1)
    assert nodes["Aa", "Bb"]["unk"] is None
    assert nodes["Aa",]["unk"] == {"alpha": 2, "beta": 1}, "its own: only its own election counts"
    assert nodes[()]["unk"] == {"alpha": 2, "beta": 2}


def test_success_adds_exactly_one_to_the_alpha_of_the_unk_used():
    hand = ByHand(tree={"depth": 3})
    before = described(hand.manager)[()]
    hand.answer("Aa")
    after = described(hand.manager)
    assert before["unk"] == {"alpha": 1, "beta": 1} and after[()]["unk"] == {"alpha": 2, "beta": 1}
    assert after["Aa",]["unk"] == {"alpha": 1, "beta": 1}
    # Over many walks: one for each child that was born there, whatever else happened.
    for path, node in described(grown(3, num_walks=30).manager).items():
        assert len(path) == 3 or node["unk"] == {"alpha": 1 + len(node["children"]), "beta": 1}


def test_after_a_success_the_walk_goes_on_from_the_new_child():
    hand = ByHand(tree={"depth": 3})
    asked = []
    for name in LEAF:
        asked += [(request.path, request.leaf) for request in hand.requests]
        hand.answer(name)
    assert asked == [((), False), (("Aa",), False), (("Aa", "Bb"), True)]
    assert [ticket.path for ticket in hand.tickets()] == [LEAF]


def test_failure_adds_exactly_one_to_the_beta_of_unk_and_the_node_draws_again():
    hand = ByHand(tree={"depth": 1})
    for number in range(1, 5):
        hand.answer("Not 1 Name", "Unknown")
        assert hand.unk() == (1, 1 + number)
        assert hand.requests[0].election == number, "there is no child: the new draw is for unk again"
    hand.answer("Aa")
    assert hand.unk() == (2, 5) and posterior(hand.node("Aa")) == (1, 1)
    # With a child there, the new draw may be for the child: a walk is not bound to `unk`.
    ended = set()
    for seed in range(20):
        hand = ByHand(["Aa"], tree={"depth": 1}, seed=seed)
        if hand.requests:
            hand.answer("Aa")
            ended.add(bool(hand.tickets()))
    assert ended == {True, False}


def test_after_max_failures_of_one_walk_unk_is_closed_and_the_walk_takes_a_child():
    assert make_config().sprout.max_failures == 10
    hand = ByHand(["Aa", "Ab"], tree={"depth": 1}, sprout={"max_failures": 3}, meditation=steps_of(40))
    hand.answer_all(lambda request: [])
    tickets = hand.tickets()
    assert {ticket.path for ticket in tickets} == {("Aa",), ("Ab",)} and len(tickets) == 40
    assert hand.manager.work(0).abandoned_for == {}
    assert hand.manager.stats()["num_failed_sprouts"] >= 3


def test_a_closed_unk_stays_closed_for_all_walks_of_the_round_and_opens_in_the_next():
    hand = ByHand(["Aa"], tree={"depth": 1}, sprout={"max_failures": 1}, meditation=steps_of(60, 2))
    hand.answer()
    assert len(hand.tickets(0)) == 60 and hand.requests == (), "all walks of the step went on without unk"
    hand.commit(failed, 0)
    assert len(hand.tickets(1)) == 60 and hand.requests == (), "and those of the next"
    assert hand.manager.stats()["num_failed_sprouts"] == 1
    hand.commit(failed, 1)
    hand.close()
    assert hand.requests, "60 walks in a new round draw unk at even odds"
    assert hand.unk() == (1, 2), "what it has learnt stays"


def test_a_walk_without_name_and_child_is_abandoned_and_counted():
    hand = ByHand(tree={"depth": 2}, meditation=steps_of(4))
    for number in range(10):
        assert hand.manager.stats()["num_abandoned"] == 0, number
        hand.answer()
    stats = hand.manager.stats()
    assert (stats["num_abandoned"], stats["num_issued"], stats["num_failed_sprouts"]) == (4, 0, 10)
    assert hand.manager.work(0).tickets == () and hand.requests == ()
    hand.commit(failed)
    assert hand.close().row_sample_ids == ()


def test_failures_are_counted_per_walk_and_node():
    # Two failures close `unk`; but the walks here that fail once and then take the child add up to nothing.
    hand = ByHand(["Aa"], tree={"depth": 1}, sprout={"max_failures": 2}, meditation=steps_of(60), seed=8)
    hand.answer_all(lambda request: [])
    kinds = [type(event).__name__ for event in hand.manager.events_since_commit]
    of_walks = " ".join(kind for kind in kinds if kind in ("Elected", "UnkClosed", "Walked")).split("Walked")
    closed = next(number for number, text in enumerate(of_walks) if "UnkClosed" in text)
    assert of_walks[closed].split() == ["Elected", "Elected", "UnkClosed"], "one walk failed twice"
    before = [text.split() for text in of_walks[:closed]]
    assert {len(walk) for walk in before} == {0, 1} and before.count(["Elected"]) >= 2, "others failed once each"
    assert "Elected" not in " ".join(of_walks[closed + 1 :])
    # One failure at the root and one at its child are not two failures.
    hand = ByHand(tree={"depth": 2}, sprout={"max_failures": 2})
    hand.answer()
    hand.answer("Aa")
    hand.answer(path=("Aa",))
    assert hand.requests and hand.manager.work(0).abandoned_for == {}
    hand.answer(path=("Aa",))
    assert sum(hand.manager.work(0).abandoned_for.values()) == 1 and hand.node("Aa")["children"] == []


def steps_of(num_walks: int, steps: int = 1) -> dict[str, int]:
    return {"steps": steps, "walks_per_step": num_walks}
