"""Room on nodes by tables: labels, custom resources, what is left, and the rule that leaves the trainer its room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.placement.capacity import Bundle, Free, Node, Sit, Wait, admit, matches


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({}, True),
        ({"region": "a"}, True),
        ({"region": "b"}, False),
        ({"region": "!b"}, True),
        ({"region": "!a"}, False),
        ({"region": "in(b, a)"}, True),
        ({"region": "in(b,c)"}, False),
        ({"region": "!in(b,c)"}, True),
        ({"region": "!in(a)"}, False),
        ({"market": "spot"}, False),  # not set
        ({"market": "!spot"}, True),
        ({"market": "!in(spot)"}, True),
        ({"region": "a", "card": "h100"}, True),
        ({"region": "a", "card": "l4"}, False),
    ],
)
def test_labels_meet_a_selector_as_in_ray(selector, fits):
    assert matches({"region": "a", "card": "h100"}, selector) is fits


def engine(num_gpus=1.0, **more) -> Bundle:
    return Bundle("engine", "ada", num_cpus=1, num_gpus=num_gpus, **more)


def worker(num_gpus=1.0, **more) -> Bundle:
    return Bundle("trainer worker", "trainer", num_cpus=1, num_gpus=num_gpus, **more)


def free(name="a", gpus=0.0, cpus=8.0, labels=None, resources=None) -> Free:
    node = Node(name, 8, 8, labels=labels or {}, resources=resources or {})
    return Free.rest(node, {"CPU": cpus, "GPU": gpus, **(resources or {})})


@pytest.mark.parametrize(
    ("bundles", "nodes", "owed", "expected"),
    [
        # Room for all.
        ([engine()], [free(gpus=1)], [], Sit(("a",))),
        # The trainer has no seat: what is free is its own.
        ([engine()], [free(gpus=1)], [worker()], Wait(True, ("a: 0 GPU, 7 CPU",))),
        ([engine()], [free(gpus=2)], [worker()], Sit(("a",))),
        ([engine()], [free(gpus=1), free("b", gpus=1)], [worker()], Sit(("b",))),
        # The trainer needs whole nodes: an engine must not split the one it fits on.
        ([engine()], [free(gpus=4), free("b", gpus=1)], [worker(4)], Sit(("b",))),
        (
            [engine()],
            [free(gpus=4), free("b", gpus=0)],
            [worker(4)],
            Wait(True, ("a: 0 GPU, 7 CPU", "b: 0 GPU, 8 CPU")),
        ),
        # The trainer itself finds no room: no engine asks for a node before it,
        ([engine()], [free(gpus=0)], [worker()], Wait(False, ("a: 0 GPU, 8 CPU",))),
        # nor takes what may become part of its room.
        ([engine()], [free(gpus=2)], [worker(4)], Wait(False, ("a: 2 GPU, 8 CPU",))),
        ([engine()], [free(gpus=2)], [worker(), worker(4)], Wait(False, ("a: 2 GPU, 8 CPU",))),
        # Stages may sit apart, and are seated all or not at all.
        ([engine(2), engine(2)], [free(gpus=2), free("b", gpus=3)], [], Sit(("a", "b"))),
        (
            [engine(2), engine(2)],
            [free(gpus=2), free("b", gpus=1)],
            [],
            Wait(True, ("a: 2 GPU, 8 CPU", "b: 1 GPU, 8 CPU")),
        ),
        # Shares of a card.
        ([engine(0.5)], [free(gpus=0.5)], [], Sit(("a",))),
        ([engine(0.5)], [free(gpus=1.5)], [worker()], Sit(("a",))),
        ([engine(0.6)], [free(gpus=0.5)], [], Wait(True, ("a: 0.5 GPU, 8 CPU",))),
        # Labels and custom resources say where, and the refusal names them.
        ([engine(labels={"region": "b"})], [free(gpus=1), free("b", 1, labels={"region": "b"})], [], Sit(("b",))),
        ([engine(labels={"region": "b"})], [free(gpus=1)], [], Wait(True, ("a: region=not set",))),
        ([engine(resources={"h": 2})], [free(gpus=1), free("b", 1, resources={"h": 2})], [], Sit(("b",))),
        ([engine(resources={"h": 2})], [free(gpus=1, resources={"h": 1})], [], Wait(True, ("a: 1 GPU, 8 CPU, 1 h",))),
        # No node at all.
        ([engine()], [], [], Wait(True, ())),
        ([engine()], [], [worker()], Wait(False, ())),
    ],
)
def test_an_engine_gets_what_the_trainer_leaves(bundles, nodes, owed, expected):
    before = [str(node) for node in nodes]
    assert admit(bundles, nodes, owed) == expected
    assert [str(node) for node in nodes] == before, "it is a question, nothing is taken"


gpus = st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0])


@given(
    rooms=st.lists(gpus, max_size=4),
    wanted=st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=1, max_size=3),
    workers=st.lists(st.sampled_from([1.0, 2.0, 4.0]), max_size=3),
)
def test_whoever_is_admitted_leaves_the_trainer_its_room(rooms, wanted, workers):
    nodes = [free(f"n{i}", gpus=room) for i, room in enumerate(rooms)]
    owed = [worker(share) for share in workers]
    verdict = admit([engine(share) for share in wanted], nodes, owed)
    if not isinstance(verdict, Sit):
        return
    by_name = {node.node.name: node for node in nodes}
    for share, name in zip(wanted, verdict.nodes, strict=True):
        assert by_name[name].fits(engine(share))
        by_name[name].take(engine(share))
    assert isinstance(admit(owed, nodes, []), Sit)
