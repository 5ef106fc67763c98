"""What counts as sure, and as lost."""

from __future__ import annotations

from bohdi_ray.evaluation.sure_tokens import NextTokens, passages, sure_and_lost


def test_a_place_is_lost_where_another_token_is_the_most_likely_one():
    before = NextTokens((1, 2, 3, 4), (0.9, 0.5, 0.49, 0.7))
    assert sure_and_lost(before, before) == (3, 0)
    assert sure_and_lost(before, NextTokens((1, 9, 9, 9), (0.1, 0.1, 0.9, 0.9))) == (3, 2)


def test_the_text_is_there_whole():
    assert len(passages()) >= 5 and all(len(passage.splitlines()) <= 10 for passage in passages())
    assert "The capital of France is Paris" in passages()[0]
