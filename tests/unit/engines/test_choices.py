"""Log-probabilities of labels, from one-token alternatives."""

import math

import pytest

from bohdi_ray.engines.vllm.choices import first_token_choices, normalised_choices


def test_choices_are_normalised_over_themselves():
    result = normalised_choices({"A": -5.0, "B": -5.0 + math.log(3)})
    assert math.exp(result["A"]) == pytest.approx(0.25) and math.exp(result["B"]) == pytest.approx(0.75)


def test_tokens_that_begin_the_same_choice_add_up():
    tokens = [("A", math.log(0.3)), (" A", math.log(0.2)), ("B", math.log(0.5)), ("The", math.log(0.001))]
    result = first_token_choices(tokens, ("A", "B"))
    assert math.exp(result["A"]) == pytest.approx(0.5) and math.exp(result["B"]) == pytest.approx(0.5)


def test_masked_tokens_do_not_count():
    result = first_token_choices([("A", -0.1), ("B", -2.0), ("C", -math.inf), ("!", -math.inf)], ("A", "B"))
    assert result["A"] > result["B"]


def test_a_choice_that_no_token_begins_is_no_likelier_than_the_least_likely_token():
    result = first_token_choices([("A", -0.1), ("x", -9.0)], ("A", "B"))
    assert result["B"] <= -8.8


def test_a_choice_that_no_token_begins_has_at_most_what_the_others_leave():
    result = first_token_choices([("B", math.log(0.8))], ("A", "B"))
    assert math.exp(result["A"]) == pytest.approx(0.2) and math.exp(result["B"]) == pytest.approx(0.8)


@pytest.mark.parametrize("tokens", [[("G", -0.1)], [("zzz", -0.1)], [], [("", -0.1)]])
def test_tokens_that_settle_nothing_give_none(tokens):
    assert first_token_choices(tokens, ("Good one", "Good two")) is None


def test_choices_without_any_probability_are_an_error():
    with pytest.raises(ValueError, match="no choice"):
        normalised_choices({"A": -math.inf})
