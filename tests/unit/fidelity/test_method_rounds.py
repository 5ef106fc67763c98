"""Rounds: Meditation and Enlightenment (method, section 7).

7.1   test_rounds_count_from_zero_and_meditation_is_m_steps_of_b_m_walks
7.2   test_walks_of_a_step_see_the_credit_of_exactly_the_steps_that_step_lag_allows
7.3   test_round_r_harvests_with_the_target_of_round_r_minus_the_staleness
7.4   test_enlightenment_is_e_times_b_e_rows
7.7   test_training_walks_change_nothing_and_never_sprout
7.8   test_a_held_out_sample_is_never_a_row
7.9   test_rows_are_drawn_from_the_state_at_the_rounds_end_before_introspection_and_before_the_next_round
7.10  test_the_target_sees_every_row_of_a_round_in_one_pass
7.11  test_the_loss_is_on_the_answer_only_in_the_targets_own_chat_template
7.12  test_the_papers_run_has_these_settings
"""

from collections import Counter
from itertools import pairwise

import pytest
from method_by_hand import CHAIN, ONE_CHILD, ByHand, described, failed, make_config, sample

from bohdi_ray.randomness import generator
from bohdi_ray.rounds import Rounds, harvest_version
from bohdi_ray.training.batches.encoding import Encoder
from bohdi_ray.training.feed.steps import cut_round, learning_rate

START = ["Aa", "Ab", "Ac"]
FULL = {"depth": 1, "max_children": (3,)}


def three_arms(num_walks=6, steps=3, **sections) -> ByHand:
    """A tree of three leaves that cannot grow."""
    return ByHand(START, tree=FULL, meditation={"steps": steps, "walks_per_step": num_walks}, **sections)


def test_rounds_count_from_zero_and_meditation_is_m_steps_of_b_m_walks():
    hand = three_arms(num_walks=5, steps=3)
    for round in range(3):
        ids = []
        for step in range(3):
            tickets = hand.tickets(step)
            assert [(t.round, t.step, t.index) for t in tickets] == [(round, step, index) for index in range(5)]
            assert hand.tickets(step + 1) == [], "a step waits for the one before"
            ids += [ticket.ticket_id for ticket in tickets]
            hand.commit(lambda ticket: sample(ticket, 1), step)
        assert len(set(ids)) == 15 and hand.manager.committable() is None
        hand.close()
    config = make_config(meditation={})
    assert (config.meditation.steps, config.meditation.walks_per_step) == (3, 30)


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_walks_of_a_step_see_the_credit_of_exactly_the_steps_that_step_lag_allows(lag):
    """Every walk is done again here, from the posteriors after the steps it may see; other credit leads elsewhere."""
    hand = three_arms(num_walks=30, steps=4, harvest={"step_lag": lag})
    lost = {"Aa": 1, "Ab": 0, "Ac": 1}
    posteriors = [[(1.0, 1.0)] * 3]  # after so many steps
    walked = {}
    for step in range(4):
        walked |= {s: hand.tickets(s) for s in range(4) if hand.tickets(s)}
        hand.commit(lambda ticket: sample(ticket, lost[ticket.path[0]]), step)
        children = hand.node()["children"]
        posteriors.append([(child["alpha"], child["beta"]) for child in children])
    assert all(one != other for one, other in pairwise(posteriors))

    def again(step, seen):
        alpha, beta = zip(*posteriors[seen], strict=True)
        rngs = [generator(hand.config.seed, 0, step, index, "walk") for index in range(30)]
        return [(START[int(rng.beta(alpha, beta).argmax())],) for rng in rngs]

    for step in range(4):
        paths = [ticket.path for ticket in walked[step]]
        seen = max(0, step - lag)
        assert paths == again(step, seen)
        assert step == 0 or paths != again(step, seen + 1 if seen < step else seen - 1)


@pytest.mark.parametrize("staleness", [0, 1, 2])
def test_round_r_harvests_with_the_target_of_round_r_minus_the_staleness(staleness):
    rounds, hand, versions = Rounds(staleness), three_arms(num_walks=2, steps=1), []
    while len(versions) < 5:
        round = rounds.next_harvest()
        if round is None:
            rounds.trained(rounds.num_trained)
            continue
        assert {ticket.round for ticket in hand.tickets()} == {round}
        versions += {ticket.weights_version for ticket in hand.tickets()}
        assert rounds.num_trained >= versions[-1], "the version exists"
        hand.commit(failed)
        rounds.closed(round)
        hand.close(harvest_version(round + 1, staleness))
    assert versions == [max(0, round - staleness) for round in range(5)]
    assert make_config().harvest.max_staleness == 0


def test_enlightenment_is_e_times_b_e_rows():
    hand = three_arms(num_walks=2, steps=1, enlightenment={"steps": 4, "rows_per_step": 7})
    hand.commit(lambda ticket: sample(ticket, 1))
    ids = hand.close().row_sample_ids
    assert len(ids) == 28 and len(set(ids)) <= 2, "rows repeat: there are two samples"
    hand.commit(failed)
    assert len(hand.close().row_sample_ids) == 28, "samples of earlier rounds are drawn too"
    assert make_config().rows_per_round == 3 * 60


def test_training_walks_change_nothing_and_never_sprout():
    """On a tree where `unk` is open everywhere and most domains are empty."""
    hand = ByHand(CHAIN, tree={"depth": 3}, meditation={"steps": 1, "walks_per_step": 8})
    names = iter(f"New {letter}" for letter in "BCDEFGHIJKLMNOPQRS")
    hand.answer_all(lambda request: [next(names)])
    hand.commit(lambda ticket: failed(ticket) if ticket.index else sample(ticket, 1))
    before, stats = described(hand.manager), hand.manager.stats()
    assert sum(node["num_samples"] == 0 for node in before.values()) >= 3
    assert len(hand.close().row_sample_ids) == 180
    assert described(hand.manager) == before
    assert hand.manager.stats() == {**stats, "round": 1}


def test_a_held_out_sample_is_never_a_row():
    hand = three_arms(num_walks=12, steps=1)
    hand.commit(lambda ticket: sample(ticket, 1, heldout=ticket.index % 3 == 0))
    rows = Counter(hand.close().row_sample_ids)
    assert set(rows) == {f"r0000-s000-t{index:05d}" for index in range(12) if index % 3}
    none = three_arms(num_walks=3, steps=1)
    none.commit(lambda ticket: sample(ticket, 1, heldout=True))
    assert none.close().row_sample_ids == (), "a tree with held-out samples only has nothing to train on"


def test_rows_are_drawn_from_the_state_at_the_rounds_end_before_introspection_and_before_the_next_round():
    def closed(version, lag):
        chain = {"tree": ONE_CHILD, "meditation": {"steps": 3, "walks_per_step": 20}}
        hand = ByHand(CHAIN, harvest={"step_lag": lag}, **chain)
        for step in range(3):
            hand.commit(lambda ticket, step=step: sample(ticket, int(step < 2)), step)
        return hand.close(version)

    for lag in (0, 2):
        same, other = closed(0, lag), closed(1, lag)
        assert other.reborn and not same.reborn
        assert same.row_sample_ids == other.row_sample_ids, "what introspection finds is not seen by the rows"
        steps = {sample_id[:10] for sample_id in same.row_sample_ids}
        assert steps == {"r0000-s000", "r0000-s001", "r0000-s002"}, "of all steps of this round, whatever the lag"


@pytest.mark.parametrize(("num_rows", "sizes"), [(180, [90, 90]), (128, [128]), (129, [65, 64]), (7, [7])])
def test_the_target_sees_every_row_of_a_round_in_one_pass(num_rows, sizes):
    rows = [f"s{index % 5}" for index in range(num_rows)]
    steps = cut_round(2, 10, rows, [], make_config().training.global_batch_size)
    assert [row for step in steps for row in step.rows] == rows
    assert [len(step.rows) for step in steps] == sizes, "full or nearly full batches, none left over"


class OneTokenPerCharacter:
    """Just enough of a tokenizer: `<x:` begins a turn, `>` ends it."""

    chat_template = "given"
    all_special_tokens = ("<", ">")
    eos_token_id = ord(">")
    name_or_path = "characters"

    def __init__(self):
        self.added_tokens_decoder = {}

    def convert_tokens_to_ids(self, tokens):
        return [ord(token) for token in tokens]

    def apply_chat_template(self, messages, add_generation_prompt=False, tokenize=True, return_dict=False):
        text = "".join(f"<{m['role'][0]}:{m['content']}>" for m in messages) + ("<a:" if add_generation_prompt else "")
        return [ord(character) for character in text] if tokenize else text


def test_the_loss_is_on_the_answer_only_in_the_targets_own_chat_template():
    encoder = Encoder(OneTokenPerCharacter(), None, 100)
    row = encoder.encode("Why is it so?", "For this reason.")
    text = "".join(map(chr, row.ids))
    assert text[: row.num_prompt] == "<u:Why is it so?><a:", "no loss here"
    assert text[row.num_prompt :] == "For this reason.>"


def test_the_papers_run_has_these_settings():
    training = make_config().training
    assert (training.learning_rate, training.global_batch_size, training.max_length) == (5e-6, 128, 8192)
    assert (training.gradient_clipping, training.dtype, training.reset_optimizer) == (1.0, "bfloat16", True)
    assert training.deepspeed == {"zero_optimization": {"stage": 2}}
    assert {learning_rate(step, 5e-6, training.schedule, 38) for step in range(38)} == {5e-6}
    assert make_config().stop.rounds == 19
