"""Scores put together from requests, against a table of probabilities."""

from __future__ import annotations

import random

import pytest

from bohdi_ray.engines.token_requests import MAX_CANDIDATES, ContinuationRequest, NextTokenRequest
from bohdi_ray.evaluation.asking.score_plan import score_plan


def logprob(context, token):
    """Of an invented model: a function of what is before and the token."""
    return -(1 + random.Random(str((context, token))).random())


def most_likely(context):
    return max(range(10), key=lambda token: logprob(context, token))


def true_score(context, continuation):
    total, greedy = 0.0, True
    for token in continuation:
        total += logprob(context, token)
        greedy = greedy and token == most_likely(context)
        context = (*context, token)
    return total, greedy


def answered(requests):
    found = {}
    for request in requests:
        if isinstance(request, NextTokenRequest):
            values = [logprob(request.context, token) for token in request.candidates]
            found[request.request_id] = [values, most_likely(request.context)]
        else:
            found[request.request_id] = list(true_score(request.context, request.continuation))
    return found


def check(pairs):
    plan = score_plan(pairs)
    answers = answered(plan.requests)
    for pair in pairs:
        total, greedy = plan.score(pair, answers)
        expected, is_greedy = true_score(*pair)
        assert (total, greedy) == (pytest.approx(expected), is_greedy)
    return plan


def test_letters_of_one_question_are_one_prefill():
    plan = check([((1, 2), (token,)) for token in (3, 4, 5, 6)])
    assert [type(request) for request in plan.requests] == [NextTokenRequest]


def test_letters_behind_a_line_break_are_two_prefills():
    plan = check([((1, 2), (9, token)) for token in (3, 4, 5, 6)])
    assert [request.context for request in plan.requests] == [(1, 2), (1, 2, 9)]
    assert all(isinstance(request, NextTokenRequest) for request in plan.requests)


def test_answers_that_differ_earlier_are_asked_one_by_one():
    plan = check([((1,), (3, 4)), ((1,), (4, 3)), ((1,), (5, 6, 7))])
    assert [type(request) for request in plan.requests] == [ContinuationRequest] * 3


def test_a_long_common_beginning_is_scored_once():
    plan = check([((1,), (3, 4, 5, token)) for token in range(6)])
    assert [type(request) for request in plan.requests] == [NextTokenRequest, ContinuationRequest]


def test_a_greedy_answer_is_told_as_one():
    first = most_likely((1, 2))
    second = most_likely((1, 2, first))
    plan = score_plan([((1, 2), (first, second)), ((1, 2), (first, (second + 1) % 10))])
    answers = answered(plan.requests)
    assert [plan.score(pair, answers)[1] for pair in plan.parts] == [True, False]


def test_many_candidates_are_several_requests():
    plan = check([((1,), (token,)) for token in range(2 * MAX_CANDIDATES + 1)])
    assert [len(request.candidates) for request in plan.requests] == [MAX_CANDIDATES, MAX_CANDIDATES, 1]


def test_any_mixture_of_pairs_has_its_own_scores():
    rng = random.Random(1)
    pairs = [(tuple(rng.choices(range(3), k=2)), tuple(rng.choices(range(3), k=rng.randint(1, 4)))) for _ in range(300)]
    plan = check(pairs)
    assert len(plan.requests) < len(set(pairs))
