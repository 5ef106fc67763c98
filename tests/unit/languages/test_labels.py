"""A label counts only where it is the answer: in texts of judges in many languages, and in log-probabilities alike."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.engines.prompts import LABELS, parse_label
from bohdi_ray.engines.vllm.choices import UNLIKELY, labelled
from bohdi_ray.harvest.judges.judging import label_logprobs
from bohdi_ray.languages.labels import find_label, label_of
from bohdi_ray.records import EngineReply

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
# Statements that used to be taken for lists, for there is a label in the next line.
BEFORE_ANOTHER_STATEMENT = [
    "B\n\nAnswer A is wrong.",
    "Answer: B\n\nAnswer A is less accurate.",
    "\\boxed{B}\n\nAnswer A is wrong",
    "[[B]]\n\nAnswer A is wrong",
    "B\nA is wrong.",
    "Antwort: B\n\nAntwort A ist falsch.",
    "Ответ: B\n\nОтвет A неверный.",
    "B\n\n- Answer A: wrong\n- Answer B: right",
    "答案：B\n\nA错误",
    "B\n\nA 的回答有误",
]
# Beside the answer the worst one, the second, or one that is denied.
BESIDE_ITS_OPPOSITE = [
    "Best answer: B\nWorst answer: A",
    "最佳答案：B\n最差答案：A",
    "正确答案是B，错误答案是A",
    "Лучший ответ: B. Худший ответ: A.",
    "Best answer: B, second best answer: A",
    "The worst is A; the best is B",
    "Worst: A. Best: B.",
    '{"worst": "A", "best": "B"}',
    "B, not A.",
    "不选A，选B",
    "选A的话不够全面，选B更好",
    "The first option is A. The best answer is B",
]
# Plain answers in many languages.
PLAIN_B = [
    "I'd choose B.",
    "B is more accurate than A.",
    "Answer B is the most accurate and complete.",
    "A is wrong. B is right.",
    "Correct option: B",
    "Choose B",
    "<|begin_of_box|>B<|end_of_box|>",
    "✅ B",
    '{"label":"B"}',
    '{"letter":"B"}',
    '{"best":"B"}',
    '{"result":"B"}',
    "最佳选项是B",
    "故选：B",
    "B更准确",
    "B优于A",
    "B比A好",
    "获胜者是B",
    "Bが最適です。",
    "Bが正解です",
    "BはAより優れている",
    "Letra B",
    "La opción correcta es B",
    "A melhor resposta é a B.",
    "Die richtige Antwort lautet: B",
    "Ich entscheide mich für B.",
    "Правильный вариант: B",
    "En iyi cevap B'dir.",
    "Đáp án đúng là B",
    "أختار B",
    "بهترین پاسخ B است",
    "Svar: B",
    "Răspuns: B",
    "Válasz: B",
    "Vastaus: B",
    "সঠিক উত্তর: B",
    "I’d go with answer B.",
    "The best answer would be B.",
    '```json\n{"choice": "Answer B"}\n```',
    '{"explanation": "A is wrong", "answer": "B"}',
    '{"reason":"A","answer":"B"}',
    "Therefore, B.",
    "\\boxed{\\textit{B}}",
    "B because it is right",
    "B 🏆",
    "B胜出",
    "결론: B",
    "La réponse B est la meilleure.",
    "La meilleure réponse est l'option B",
    "A resposta B é a melhor.",
    "Лучший ответ — B.",
    "B лучше A",
    "Je choisis la réponse B.",
    "Jawaban yang benar adalah B",
    "התשובה הנכונה היא B",
    "सही उत्तर B है।",
    "The best answer is B, a clear one",
]
# Of the worst, of another, denied, supposed, asked, one of several, or a mark.
TURNED_ROUND = [
    "The wrong answer is A.",
    "Die schlechteste Antwort ist A.",
    "La peor respuesta es A",
    "最悪の回答はAです",
    "答えはAかBです",
    "정답은 A 또는 B입니다",
    "我不选A",
    "不应选A",
    "选A是错误的",
    "答案：A和B一样好",
    "सही उत्तर A नहीं है।",
    "คำตอบ A ไม่ถูกต้อง",
    "Answer A, while concise, is wrong.",
    "Answer A: has errors.",
    "A: 7/10, B: 9/10",
    "The worst answer is A.",
    "Worst answer: A",
    "Worst: A",
    "La pire réponse est A",
    "最差答案：A",
    "错误答案：A",
    "Худший ответ: A.",
    "The second-best answer is A.",
    "The first option is A.",
    "If I choose A, I lose completeness.",
    "It is not true that A is better",
    "A is the winner? No.",
    "Is the answer B?",
    "I don't choose A.",
    "不选A",
    "不要选A",
    "如果选A，就错了",
    "选A还是选B？",
    "正解はAではありません",
    "答えはAだと思わない",
    "Aが優れているとは言えない",
    "Aが良くない",
    "정답은 A가 아닙니다",
    "A가 더 좋지 않습니다",
    "답은 A와 B",
    "الإجابة ليست A",
    "الجواب ليس A.",
    "התשובה היא לא A.",
    "پاسخ A نیست",
    "पहला उत्तर A नहीं है",
    "คำตอบคือ A หรือ B",
    "Cevap A değil",
    "A daha iyi değil",
    "Ответ A, хотя и краткий, неверен.",
    "Antwort A, obwohl kurz, ist falsch.",
    "Answer A: The explanation is",
    "选项A：准确",
    "A = 7, B = 9",
    "A: 7, B: 9",
    "Score A: 7",
    '{"A": "good", "B": "bad"}',
    '{"A": "good"}',
    '{"worst": "A"}',
    "A…",
    "A≈B",
    "A—B",
    "Answer: A—B",
    "A;B",
    "A|B",
    "D. h. keine",
    "So A is worse",
    "A) wrong\nB) right",
]
B_OR_NONE = [
    "正解はAではなくBです",
    "정답은 A가 아니라 B입니다",
    "الإجابة الصحيحة ليست A، بل B.",
    "התשובה אינה A, אלא B.",
]


@pytest.mark.parametrize(("text", "label"), NAMED)
def test_a_label_that_is_the_answer_is_read(text, label):
    assert label_of(text, FOUR) == parse_label(text, FOUR) == label


@pytest.mark.parametrize("text", NOT_NAMED)
def test_a_letter_that_is_no_answer_is_not_read(text):
    assert label_of(text, FOUR) is None and parse_label(text, FOUR) is None
    alternatives = [(text[:1] or "A", -0.1), ("A", -0.5), ("B", -2.0)]
    assert labelled(text, alternatives, FOUR) == (text, None)


@pytest.mark.parametrize("text", [*BEFORE_ANOTHER_STATEMENT, *BESIDE_ITS_OPPOSITE, *PLAIN_B])
def test_what_is_said_of_other_labels_hides_no_answer(text):
    assert label_of(text, FOUR) == "B"


@pytest.mark.parametrize("text", TURNED_ROUND)
def test_the_opposite_of_an_answer_is_none(text):
    assert label_of(text, FOUR) is None


@pytest.mark.parametrize("text", B_OR_NONE)
def test_a_denied_label_is_not_read_before_the_right_one(text):
    assert label_of(text, FOUR) in ("B", None)


@pytest.mark.parametrize(
    "text",
    [
        *("B", " \n\nB.", "**B**", "Option B", "Answer A is wrong.\n\nB", "答案是Ｂ", "\u200b(\u200bB)"),
        *("!!!!!!\n\n\n\n\nAnswer: B", "⒜ ⒜⒜ Answer: B", "A is long. " * 1000 + "Answer: B"),
        *('{"reason": "A is wrong", "best": "B"}', '{"best": "B"}'),
    ],
)
def test_the_place_of_a_label_is_that_in_the_reply(text):
    found = find_label(text, FOUR)
    assert found is not None and text[found.start] == text.rstrip('.*)"}')[-1]


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


@pytest.mark.parametrize(
    "text",
    ["B", "b", "**B**", "(B)", "B.", "Ｂ", "B is better than A.", "B\nbecause", "The best answer is B", "答案是B"],
)
def test_the_probabilities_of_the_labels_own_token_count(text):
    label, logprobs = labelled(text, ALTERNATIVES, ("A", "B"))
    assert label == "B" and math.exp(logprobs["A"]) == pytest.approx(0.5 / 0.8)


@pytest.mark.parametrize("alternatives", [[], [("The", -0.1), ("A", -3.0)], [("", -0.1)]])
def test_where_its_own_token_is_not_known_the_label_is_certain(alternatives):
    label, logprobs = labelled("The best answer is B", alternatives, ("A", "B"))
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
    assert label_logprobs(EngineReply("i", "m", 0, text="A close call.", finish_reason="stop"), 2) is None
    read = label_logprobs(EngineReply("i", "m", 0, text="答案是Ｂ", finish_reason="stop"), 2)
    assert read is not None and read[1] == 0.0


def test_an_i_without_its_dot_is_the_label_i():
    assert label_of("Cevap: ı", LABELS[:9]) == label_of("ı", LABELS[:9]) == "I"
