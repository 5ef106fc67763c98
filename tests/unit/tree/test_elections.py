from collections import Counter

from scripted_fusion import make_config

from bohdi_ray.records import Proposals
from bohdi_ray.tree.elections import hold, parse_request_id, request_id, sprout_request
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.record import journal

SEEDS = {"Science": {"Physics": ["Optics"]}, "Arts": None}


def node_with(names, path=("Science",), ballot=None):
    """(tree, node) with `names` arrived for the node's first poll."""
    state = TreeManager(make_config(), SEEDS)._state
    node = state.tree.find(path)
    node.arms.ballot = dict(ballot or {})
    if names is not None:
        node.arms.proposals[0] = Proposals(request_id(path, 0), tuple(names), 0, 0)
    return state.tree, node


def test_the_most_frequent_name_wins_and_the_losers_stay_as_votes():
    tree, node = node_with(["Chemistry", "Biology", "Chemistry", "Geology"])
    event = hold(tree, node, 0, reuse_ballots=True)
    assert event == journal.Elected(("Science",), True, "Chemistry", {"Biology": 1, "Geology": 1})
    assert hold(tree, node, 0, reuse_ballots=False).ballot == {}


def test_a_tie_falls_alike_for_one_seed_and_either_way_over_seeds():
    tree, node = node_with(["Biology", "Chemistry", "Chemistry", "Biology", "Geology"])
    winners = Counter(hold(tree, node, seed, True).winner for seed in range(400))
    assert set(winners) == {"Biology", "Chemistry"}
    assert abs(winners["Biology"] - 200) < 4 * 10  # four standard deviations of a fair coin
    assert len({hold(tree, node, 5, True).winner for _ in range(10)}) == 1
    node.arms.proposals[0] = Proposals("x", ("Chemistry", "Biology", "Biology", "Chemistry"), 0, 0)
    assert [hold(tree, node, seed, True).winner for seed in range(20)] == [
        hold(*node_with(["Biology", "Chemistry"] * 2), seed, True).winner for seed in range(20)
    ], "the order of proposals must not matter"


def test_names_anywhere_in_the_tree_are_dropped():
    tree, node = node_with(["Arts", "Optics", "Science", "Physics", "Biology"])
    assert hold(tree, node, 0, True) == journal.Elected(("Science",), True, "Biology", {})


def test_an_election_without_a_free_name_fails():
    tree, node = node_with(["Arts", "Optics"])
    assert hold(tree, node, 0, True) == journal.Elected(("Science",), True, None, {})
    tree, node = node_with([])
    assert hold(tree, node, 0, True).winner is None


def test_a_name_given_in_this_step_is_taken_for_siblings_and_descendants_only():
    tree, node = node_with(["Biology"])
    tree.add(tree.find(("Arts",)), "Biology")
    assert hold(tree, node, 0, True).winner == "Biology"
    tree.start_step()
    assert hold(tree, node, 0, True).winner is None

    tree, node = node_with(["Biology"])
    tree.add(node, "Biology")
    assert hold(tree, node, 0, True).winner is None

    tree, node = node_with(["Biology"], path=())
    child = tree.add(node, "Biology")
    child.arms.proposals[0] = Proposals("x", ("Biology",), 0, 0)
    assert hold(tree, child, 0, True).winner is None


def test_while_the_ballot_has_a_free_name_nobody_is_asked():
    tree, node = node_with(None, ballot={"Arts": 5, "Biology": 2, "Geology": 1})
    assert hold(tree, node, 0, True) == journal.Elected(("Science",), False, "Biology", {"Geology": 1})
    tree, node = node_with(None, ballot={"Arts": 5})
    assert hold(tree, node, 0, True) is None
    tree, node = node_with(["Geology"], ballot={"Arts": 5})
    assert hold(tree, node, 0, True) == journal.Elected(("Science",), True, "Geology", {})


def test_request_ids_say_which_node_and_which_poll():
    tree, node = node_with(None, path=("Science", "Physics"))
    request = sprout_request(node, 3, tree.depth)
    assert (request.path, request.election, request.leaf) == (("Science", "Physics"), 3, True)
    assert parse_request_id(request.request_id) == (("Science", "Physics"), 3)
    assert parse_request_id(request_id((), 0)) == ((), 0)
    assert not sprout_request(tree.root, 0, tree.depth).leaf
