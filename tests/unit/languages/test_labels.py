"""A label counts only where it is the answer: in texts of judges in many languages, and in log-probabilities alike."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.engines.choices import UNLIKELY, labelled
from bohdi_ray.engines.prompts import LABELS, parse_label
from bohdi_ray.harvest.judge import label_logprobs
from bohdi_ray.languages.labels import label_of
from bohdi_ray.records import Completion

FOUR = LABELS[:4]
NAMED = [
    ("B", "B"),
    (" B.", "B"),
    ("**B**", "B"),
    ("Answer B", "B"),
    ("The best answer is C.", "C"),
    ("B\nbecause it is right", "B"),
    ("(A)", "A"),
    ("b", "B"),
    ("答案是B", "B"),
    ("Ｂ", "B"),
    ("答え：Ｂ", "B"),
    ("Antwort: B", "B"),
    ("\\boxed{B}", "B"),
    ("$\\boxed{\\text{B}}$", "B"),
    ("B is better than A because it is right.", "B"),
    ("Option A", "A"),
    ("B)", "B"),
    ("B.", "B"),
    ("answer: b", "B"),
    ("A: clear but wrong\nB: correct\nAnswer: B", "B"),
    ("The best answer is B because it covers all.", "B"),
    ("Answer: A. Wait, B is right. Final answer: B", "B"),
    ("I think the best answer is B. A is better at clarity, though.", "B"),
    ('{"answer": "C"}', "C"),
    ("[[B]]", "B"),
    ("Verdict: [[A]]", "A"),
    ("La réponse est B.", "B"),
    ("La mejor respuesta es la B", "B"),
    ("La risposta migliore è B", "B"),
    ("A melhor resposta é C.", "C"),
    ("Ответ: B", "B"),
    ("答案B。", "B"),
    ("回答B更好", "B"),
    ("相比回答A，回答B更好", "B"),
    ("Ответ B лучше, чем ответ A", "B"),
    ("答案是A，不对，答案是B", "B"),
    ("<answer>B</answer>", "B"),
    ("Both are close.\n<answer>A</answer> No: <answer>B</answer>", "B"),
    ("<verdict> b </verdict>", "B"),
    ("Правильный ответ — B", "B"),
    ("정답은 B입니다", "B"),
    ("정답: B", "B"),
    ("答案为B。", "B"),
    ("我选B", "B"),
    ("选B", "B"),
    ("B更好", "B"),
    ("B最好，因为它准确。", "B"),
    ("答えはBです", "B"),
    ("Bが最も良い", "B"),
    ("الإجابة: B", "B"),
    ("الإجابة هي B", "B"),
    ("התשובה היא B", "B"),
    ("उत्तर: B", "B"),
    ("คำตอบ: B", "B"),
    ("คำตอบที่ดีที่สุดคือ B", "B"),
    ("Đáp án: B", "B"),
    ("Cevap: B", "B"),
    ("Cevap B", "B"),
    ("Jawaban: B", "B"),
    ("Odpowiedź: B", "B"),
    ("Απάντηση: B", "B"),
    ("I prefer B over A", "B"),
    ("B wins", "B"),
    ("Ⓑ", "B"),
    ("⒝", "B"),
    ("【B】", "B"),
    ("「B」", "B"),
    ("# B", "B"),
    ("> B", "B"),
    ("- B", "B"),
    ("B - it is more accurate", "B"),
    ("B — weil", "B"),
    ("选项B", "B"),
    ("Answer: **B**", "B"),
    ("**Answer:** B", "B"),
    ("**Answer: B**", "B"),
    ("The best answer is: \n\nB", "B"),
    ("Let me think. A says x.\n\nB", "B"),
    ("a", "A"),
    ("The answer is a", "A"),
    ("B!", "B"),
    ("'B'", "B"),
    ("`B`", "B"),
    ("Best: D", "D"),
    ("D is the best answer.", "D"),
    ("Die beste Antwort ist C, weil sie stimmt.", "C"),
    ("C ist besser", "C"),
    ("plan B is better", "B"),
    ("A, because it is right", "A"),
    ("The winner is D", "D"),
    ("My choice: D", "D"),
    ("**The best answer is B**", "B"),
    ("The correct answer is (B) 42.", "B"),
    ("(B) It is accurate", "B"),
]
NOT_NAMED = [
    "回答B比回答A好",  # another label is named, as what the first is measured by
    "答案B优于答案A",
    "回答Bの方が回答Aより良い",
    "답변 B가 답변 A보다 낫다",
    "与回答A相比，回答B较差",
    "回答B较差",
    "Ответ B хуже",
    "A good answer would be B",
    "Both are good",
    "E",
    "",
    "A close call.",
    "A close call between A and B.",
    "Neither",
    "A or B",
    "Answer: A or B",
    "The answer is a good one.",
    "The answer is A good one.",
    "N/A",
    "A+",
    "A/B",
    "Answer: N/A",
    "A, B and C are all fine",
    "A: clear but wrong\nB: correct",
    "A is better in clarity, but B is better in accuracy.",
    "التشابه A",
    "Answer A is worse than answer B",
    "Neither A nor B",
    "not A",
    "The answer is not A.",
    "A-",
    "A&B",
    "A 和 B",
    "A和B都好",
    "答案是A或B",
    "答案是A和B",
    "I",
    "I think so",
    "a close one",
    "AB",
    "Ba",
    "A.\n\nB.",
    "All of them",
    "A's answer is longer.",
    "C code is shown in the answer",
    "The answer C code",
    "Grade: A",
    "Vitamin B is good",
    "Hepatitis B",
    "A B",
    "B (it is accurate)",
    "Answer: B A",
    "A vs B: B",
    "Both answers are equally good, so it is a tie.",
    "A: accurate but long. B: short but wrong. C: off topic.",
    "B 和 C 都不错",
    "AとBは同じくらい良いです",
    "The answer is neither A nor B.",
    "Ignore the others.",
    "\u200b",
    "\x00",
]


@pytest.mark.parametrize(("text", "label"), NAMED)
def test_a_label_that_is_the_answer_is_read(text, label):
    assert label_of(text, FOUR) == parse_label(text, FOUR) == label


@pytest.mark.parametrize("text", NOT_NAMED)
def test_a_letter_that_is_no_answer_is_not_read(text):
    assert label_of(text, FOUR) is None and parse_label(text, FOUR) is None
    alternatives = [(text[:1] or "A", -0.1), ("A", -0.5), ("B", -2.0)]
    assert labelled(text, alternatives, FOUR) == (text, None)


def test_a_label_that_is_not_on_offer_is_no_answer():
    assert label_of("E", FOUR) is None and label_of("Answer: E", FOUR) is None
    assert label_of("E", LABELS[:5]) == "E"


def test_of_several_statements_the_last_one_counts():
    assert label_of("The best answer is A. On second thought, the best answer is C.", FOUR) == "C"
    assert label_of("答案是A。等等，不对。最终答案是B。", FOUR) == "B"


def test_a_long_reply_is_read_at_its_end():
    reasons = "Answer A explains the colours. Answer B is shorter. " * 2000
    assert label_of(f"{reasons}\n\nFinal answer: **D**", FOUR) == "D"


@given(st.text())
def test_any_text_names_one_of_the_labels_or_none(text):
    assert label_of(text, FOUR) in (None, *FOUR)


# Log-probabilities.

ALTERNATIVES = [("A", math.log(0.5)), ("B", math.log(0.3)), ("The", math.log(0.2))]


@pytest.mark.parametrize("text", ["B", "b", "**B**", "(B)", "B.", "Ｂ", "B is better than A.", "B\nbecause"])
def test_where_the_reply_begins_with_its_label_the_first_tokens_probabilities_count(text):
    label, logprobs = labelled(text, ALTERNATIVES, ("A", "B"))
    assert label == "B" and math.exp(logprobs["A"]) == pytest.approx(0.5 / 0.8)


@pytest.mark.parametrize("text", ["The best answer is B", "答案是B", "A good one is C, but the answer is: B"])
def test_where_it_begins_with_other_words_the_label_alone_counts(text):
    label, logprobs = labelled(text, ALTERNATIVES, ("A", "B"))
    assert label == "B" and logprobs["A"] == UNLIKELY


def test_a_token_that_begins_prose_gives_no_probabilities():
    assert labelled("A close call.", ALTERNATIVES, ("A", "B")) == ("A close call.", None)
    assert labelled("", ALTERNATIVES, ("A", "B")) == ("", None)


def test_tokens_that_write_a_label_otherwise_add_to_it():
    tokens = [
        ("b", math.log(0.2)),
        ("Ｂ", math.log(0.2)),
        ("(B", math.log(0.1)),
        ("**", math.log(0.3)),
        ("A", math.log(0.5)),
    ]
    _, logprobs = labelled("b", tokens, ("A", "B"))
    assert math.exp(logprobs["A"]) == pytest.approx(0.5)


def test_a_judge_that_writes_prose_is_unreadable_and_one_that_writes_chinese_is_read():
    assert label_logprobs(Completion("i", "m", 0, text="A close call.", finish_reason="stop"), 2) is None
    read = label_logprobs(Completion("i", "m", 0, text="答案是Ｂ", finish_reason="stop"), 2)
    assert read is not None and read[1] == 0.0
