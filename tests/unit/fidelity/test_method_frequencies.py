"""Walks and training draws against exact probabilities (method, sections 2 and 7).

2.1   test_walk_frequencies_are_the_probabilities_that_an_arms_draw_is_the_largest_at_every_level_unk_included
2.6   test_at_a_closed_unk_walks_follow_the_best_existing_child
7.5   test_training_draws_follow_the_posteriors_without_unk_and_without_nodes_that_have_no_trainable_sample
7.6   test_a_leafs_trainable_samples_are_drawn_uniformly_and_rows_may_repeat

Every test is a chi-square test at 1e-6 over fixed seeds, and shows that it would refuse the neighbouring rule.
"""

from collections import Counter

import numpy as np
from method_by_hand import born, chances, failures, samples_at, state_of
from scipy.stats import chisquare

from bohdi_ray.randomness import generator
from bohdi_ray.tree.boundary import draw_samples
from bohdi_ray.tree.record import journal
from bohdi_ray.tree.walks import StepWalks

LEVEL = 1e-6
NUM_WALKS = 20_000

# A tree of depth 3, all grown by elections, with rewards at every level and failures at some `unk` arms.
EVENTS = [
    *[born("Aa"), born("Aa", "Ba"), born("Aa", "Ba", "Ca"), born("Aa", "Ba", "Cb"), born("Aa", "Bb")],
    *[born("Aa", "Bb", "Cc"), born("Ab"), born("Ab", "Bc"), born("Ab", "Bc", "Cd")],
    *failures(1),
    *failures(3, "Aa"),
    *failures(2, "Aa", "Ba"),
    *samples_at(("Aa", "Ba", "Ca"), "1101", 0),
    *samples_at(("Aa", "Ba", "Cb"), "100h", 10),
    *samples_at(("Aa", "Bb", "Cc"), "01", 20),
    *samples_at(("Ab", "Bc", "Cd"), "011", 30),
]


def outcomes(node, closed=()) -> dict[tuple, float]:
    """Exact chance of every leaf, and of every `unk` (the path of its node and None), for a walk at `node`."""
    if node.arms is None:
        return {node.path: 1.0}
    arms = [(float(node.arms.alpha[0]), float(node.arms.beta[0]))]
    arms += [child.posterior for child in node.arms.children]
    shares = [0.0, *chances(arms[1:])] if node.path in closed else chances(arms)
    found = {(*node.path, None): shares[0]} if shares[0] else {}
    for child, share in zip(node.arms.children, shares[1:], strict=True):
        found |= {key: share * part for key, part in outcomes(child, closed).items()}
    return found


def walked(state) -> Counter:
    """Where NUM_WALKS walks from the same state end: a leaf, or a node whose `unk` won."""
    ends: Counter = Counter()
    for step in range(NUM_WALKS):
        events = []
        walks = StepWalks(state, step, events.append)
        walks.start()
        for node in walks.waiting():
            ends[*node.path, None] += 1
        ends.update(event.path for event in events if isinstance(event, journal.Walked))
    assert ends.total() == NUM_WALKS
    return ends


def p_value(counts: Counter, expected: dict[tuple, float]) -> float:
    """Of the chi-square test that the counts have these chances."""
    assert set(counts) <= set(expected), "something happened that cannot"
    sizes = np.array(list(expected.values())) * counts.total()
    assert sizes.min() > 10, "too few for the chi-square law"
    return chisquare([counts[key] for key in expected], sizes).pvalue


def test_walk_frequencies_are_the_probabilities_that_an_arms_draw_is_the_largest_at_every_level_unk_included():
    state = state_of(EVENTS)
    counts, expected = walked(state), outcomes(state.tree.root)
    assert {len(path) for path in expected if path[-1] is None} == {1, 2, 3} and len(expected) == 10
    assert p_value(counts, expected) > LEVEL
    # One failure more of one `unk`, two levels down, is another law already.
    assert p_value(counts, outcomes(state_of([*EVENTS, *failures(1, "Aa")]).tree.root)) < LEVEL


def test_at_a_closed_unk_walks_follow_the_best_existing_child():
    closed = ((), ("Aa", "Ba"))
    state = state_of([*EVENTS, *(journal.UnkClosed(path) for path in closed)])
    counts = walked(state)
    assert p_value(counts, outcomes(state.tree.root, closed)) > LEVEL
    assert not {key for key in counts if key[-1] is None} & {(None,), ("Aa", "Ba", None)}


# Training: one leaf has only a held-out sample, one nothing, and every `unk` would win nearly always.
ROWS_EVENTS = [
    *[born("Aa"), born("Aa", "Ba"), born("Aa", "Ba", "Ca"), born("Aa", "Ba", "Cb"), born("Aa", "Ba", "Cc")],
    *[born("Aa", "Bb"), born("Aa", "Bb", "Cd"), born("Ab"), born("Ab", "Bc"), born("Ab", "Bc", "Ce")],
    *[born("Ac"), born("Ac", "Bd"), born("Ac", "Bd", "Cf"), born("Ad"), born("Ad", "Be"), born("Ad", "Be", "Cg")],
    *samples_at(("Aa", "Ba", "Ca"), "110h", 0),
    *samples_at(("Aa", "Ba", "Cb"), "10", 10),
    *samples_at(("Aa", "Bb", "Cd"), "h", 20),
    *samples_at(("Ab", "Bc", "Ce"), "01h01", 30),
    *samples_at(("Ac", "Bd", "Cf"), "1", 40),
]


def row_chances(node, live=lambda node: node.num_trainable > 0) -> dict[str, float]:
    """Exact chance of every trainable sample for a training walk at `node`."""
    if node.arms is None:
        ids = node.trainable_ids()
        return {sample_id: 1 / len(ids) for sample_id in ids}
    children = [child for child in node.arms.children if live(child)]
    shares = chances([child.posterior for child in children])
    return {
        key: share * part
        for child, share in zip(children, shares, strict=True)
        for key, part in row_chances(child, live).items()
    }


def drawn(state, num_rows) -> Counter:
    return Counter(draw_samples(state.tree, state.policy, generator(5, "rows"), num_rows))


def test_training_draws_follow_the_posteriors_without_unk_and_without_nodes_that_have_no_trainable_sample():
    state = state_of(ROWS_EVENTS)
    counts, expected = drawn(state, 30_000), row_chances(state.tree.root)
    assert len(expected) == 10 and abs(sum(expected.values()) - 1) < 1e-12
    assert p_value(counts, expected) > LEVEL
    # If nodes without trainable samples were drawn too and the row drawn anew, rows would have other chances.
    again = row_chances(state.tree.root, live=lambda node: True)
    assert p_value(counts, {key: again[key] / sum(again.values()) for key in expected}) < LEVEL


def test_a_leafs_trainable_samples_are_drawn_uniformly_and_rows_may_repeat():
    path = ("Aa", "Ba", "Ca")
    births = [born(*path[:1]), born(*path[:2]), born(*path)]
    state = state_of([*births, *samples_at(path, "1h0011h", 0)])
    counts = drawn(state, 5_000)
    assert sorted(counts) == list(state.tree.find(path).trainable_ids()) and len(counts) == 5
    assert chisquare(list(counts.values())).pvalue > LEVEL
    assert drawn(state, 6).total() == 6, "more rows than samples"
