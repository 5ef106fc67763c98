"""What a node keeps of its samples, packed; and that the digest misses nothing a policy may change."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scripted_fusion import ScriptedFusion, Sharing, digest_afresh, make_config

from bohdi_ray.config.kinds.bandits import DynabranchesBandit
from bohdi_ray.records import MAX_ROUNDS, MAX_STEPS, MAX_TICKETS, pack_ticket_id, ticket_id, unpack_ticket_id
from bohdi_ray.tree.knowledge_tree import KnowledgeTree, Node, question_key
from bohdi_ray.tree.manager import TreeManager

FIELDS = (st.integers(0, MAX_ROUNDS - 1), st.integers(0, MAX_STEPS - 1), st.integers(0, MAX_TICKETS - 1))


@given(*FIELDS)
def test_an_id_survives_its_packing_in_64_bits(round, step, index):
    text = ticket_id(round, step, index)
    packed = pack_ticket_id(text)
    assert unpack_ticket_id(packed) == text and 0 <= packed < 1 << 64


@given(st.tuples(*FIELDS), st.tuples(*FIELDS))
def test_packed_ids_sort_as_tickets_do(first, second):
    assert (pack_ticket_id(ticket_id(*first)) < pack_ticket_id(ticket_id(*second))) == (first < second)


@pytest.mark.parametrize("fields", [(MAX_ROUNDS, 0, 0), (0, MAX_STEPS, 0), (0, 0, MAX_TICKETS)])
def test_an_id_that_does_not_fit_is_refused_by_name(fields):
    with pytest.raises(ValueError, match=f"{ticket_id(*fields)} does not fit"):
        pack_ticket_id(ticket_id(*fields))


@pytest.mark.parametrize(
    "text", ["", "r1-s000-t00000", "r00000-s000-t00000", "r0000-s000-t00000 ", "r0000-s-01-t00000"]
)
def test_text_that_is_no_id_is_refused(text):
    with pytest.raises(ValueError, match="not a ticket's id"):
        pack_ticket_id(text)


@pytest.mark.parametrize(("field", "value"), [("steps", MAX_STEPS + 1), ("walks_per_step", MAX_TICKETS + 1)])
def test_a_round_with_more_tickets_than_ids_is_refused_at_the_start(field, value):
    with pytest.raises(ValidationError, match=f"meditation.{field}"):
        make_config(meditation={field: value})


@given(st.lists(st.tuples(*FIELDS, st.text(max_size=3), st.booleans()), max_size=20))
def test_a_leaf_gives_back_its_samples_in_order(samples):
    leaf = Node("Optics", None, 1, leaf=True)
    for round, step, index, question, heldout in samples:
        leaf.add_sample(ticket_id(round, step, index), question, heldout)
    trainable = tuple(ticket_id(*sample[:3]) for sample in samples if not sample[4])
    assert leaf.trainable_ids() == trainable
    assert leaf.heldout_ids() == tuple(ticket_id(*sample[:3]) for sample in samples if sample[4])
    assert tuple(leaf.trainable_id(index) for index in range(len(trainable))) == trainable
    with pytest.raises(IndexError):
        leaf.trainable_id(len(trainable))
    assert all(leaf.has_question(sample[3]) for sample in samples)


def test_a_question_whose_key_lies_across_two_others_is_not_there():
    leaf = Node("Optics", None, 1, leaf=True)
    key = question_key("why")
    leaf.questions = b"1234" + key + b"5678"
    assert not leaf.has_question("why")
    leaf.questions += key
    assert leaf.has_question("why")


def test_the_digest_sees_what_a_policy_changes_beside_the_path():
    config = make_config(bandit={"window": 4, "threshold": 0.9})
    run = ScriptedFusion(
        TreeManager(config, policy=Sharing(DynabranchesBandit(window=4, threshold=0.9))), 3, random.Random(1)
    )
    tree = run.manager.tree
    values = set()
    while run.manager.stats()["round"] < 3:
        run.turn()
        assert tree.digest() == digest_afresh(tree)
        values.add(tree.digest())
    assert run.manager.stats()["num_rebirths"] > 0 and any(n.arms.memory for n in tree.nodes() if n.arms is not None)
    assert len(values) > 9, "the digest moves with the tree"


def test_the_digest_computed_afresh_does_not_need_to_be_told_of_a_change():
    tree = KnowledgeTree(depth=2)
    science = tree.add(tree.root, "Science")
    tree.add(science, "Physics")
    before = tree.digest()
    tree.root.arms.alpha[science.index] += 1
    assert tree.digest() == before != digest_afresh(tree)
    tree.touch(tree.root)
    assert tree.digest() == digest_afresh(tree)


def test_domains_are_counted_by_level():
    tree = KnowledgeTree(depth=3)
    assert tree.domains_by_level() == (0, 0, 0)
    science, _ = tree.add_all(tree.root, ("Science", "Arts"))
    physics = tree.add(science, "Physics")
    tree.add_all(physics, ("Optics", "Acoustics", "Statics"))
    assert tree.domains_by_level() == (2, 1, 3)
    assert [child.index for child in physics.arms.children] == [1, 2, 3]
    assert (tree.num_nodes, tree.num_leaves) == (6, 3)
