"""The rate of near-duplicates counts questions like an earlier one of the same leaf."""

import pytest

from bohdi_ray.examples.duplicates import near_duplicate_rate

LEAF, OTHER = ("Science", "Optics"), ("Art", "Painting")
SKY = "Why is the sky blue at noon and red in the evening?"


@pytest.mark.parametrize(
    ("questions", "rate"),
    [
        ({}, 0.0),
        ({LEAF: []}, 0.0),
        ({LEAF: [SKY]}, 0.0),
        ({LEAF: [SKY, "How do two mirrors form a third image of a lamp?"]}, 0.0),
        ({LEAF: [SKY, "Why is the sky red in the evening and blue at noon?"]}, 0.5),
        ({LEAF: [SKY, SKY.upper(), "  why is the sky BLUE at noon -- and red in the evening!"]}, 2 / 3),
        ({LEAF: [SKY], OTHER: [SKY]}, 0.0),
    ],
)
def test_only_later_look_alikes_of_the_same_leaf_count(questions, rate):
    assert near_duplicate_rate(questions) == pytest.approx(rate)
