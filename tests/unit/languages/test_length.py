"""Lengths are fair to scripts: the same sentence counts about alike in every language, whatever its encoding."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentences import ARTICLE_1, QUESTIONS, TOO_SHORT

from bohdi_ray.engines.quality import answer_problem, question_problem
from bohdi_ray.languages.length import length, weighted_length


@pytest.mark.parametrize("language", ARTICLE_1)
def test_the_same_sentence_counts_about_alike_in_every_language(language):
    if language == "Tamil":  # its last part is left out
        assert 120 < weighted_length(ARTICLE_1[language]) < 170
    else:
        ratio = weighted_length(ARTICLE_1[language]) / weighted_length(ARTICLE_1["English"])
        assert 0.65 < ratio < 1.2, ratio


@pytest.mark.parametrize("language", QUESTIONS)
def test_a_good_question_passes_in_every_language(language):
    assert question_problem(QUESTIONS[language], "stop", 30) is None


@pytest.mark.parametrize("language", TOO_SHORT)
def test_a_question_that_says_too_little_is_too_short_in_every_language(language):
    assert question_problem(TOO_SHORT[language], "stop", 30) == "too_short"


def test_the_papers_rule_counts_characters():
    text = QUESTIONS["Chinese"]
    assert len(text) < 30
    assert answer_problem(text, "stop", 30) is None
    assert answer_problem(text, "stop", 30, "characters") == "too_short"
    assert answer_problem("x" * 31, "stop", 30, "characters") is None
    assert answer_problem("x" * 30, "stop", 30, "characters") == "too_short"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("Why?", 4),
        ("  two   words\n", 9),
        ("天空", 6),
        ("そらカナ", 8),
        ("하늘", 4),
        ("12 + 5", 6),
        ("é", 1),
        ("e\u0301", 1),
        ("Việt", 4),
        ("की", 2),
        ("क्या", 3),
        ("ไก่", 2),
        ("น้ำ", 2),
        ("كِتَابٌ", 4),
        ("שָׁלוֹם", 4),
        ("👍🏽", 1),
        ("👩‍👩‍👧‍👦", 1),
        ("🇩🇪🇫🇷", 2),
        ("1\ufe0f\u20e3", 1),
        ("\u200b\u200b\ufeff\u202e", 0),
        ("\x00\x07", 0),
    ],
)
def test_what_characters_count(text, expected):
    assert weighted_length(text) == expected


@pytest.mark.parametrize("language", QUESTIONS)
def test_encoding_padding_and_invisible_characters_change_no_length(language):
    text = QUESTIONS[language]
    expected = weighted_length(text)
    for other in (unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text), f"\u200b {text}\u2060\n\n"):
        assert weighted_length(other) == expected


@given(st.text())
def test_any_text_has_a_length_and_ascii_prose_counts_its_characters(text):
    assert weighted_length(text) >= 0
    assert length(text, "characters") == len(text)
    line = " ".join(text.encode("ascii", "ignore").decode().split())
    if line.isprintable():
        assert weighted_length(line) == len(line)
