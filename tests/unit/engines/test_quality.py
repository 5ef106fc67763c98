"""The gates refuse broken texts and pass good ones, code and tables among them."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.engines.quality import answer_problem, is_refusal, is_repetitive, question_problem, repeated_share

PROSE = (
    "Light scatters from molecules of air because the changing electric field makes their electrons oscillate. Short "
    "waves are scattered far more strongly than long ones, with the fourth power of the frequency, so blue light comes "
    "to us from every direction of the sky, while red light mostly passes straight on. At sunset the path through the "
    "atmosphere is so long that hardly any blue is left in the direct beam, and the sun itself appears red."
)
CODE = "\n".join(
    f"    def test_{name}(self):\n        self.assertEqual(compute({i}), {i * i})\n"
    for i, name in enumerate(
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
)
TRUTH_TABLE = "| P | Q | R | S | result |\n|---|---|---|---|---|\n" + "\n".join(
    "| " + " | ".join(str(v) for v in row) + f" | {row[0] != row[3]} |"
    for row in itertools.product([True, False], repeat=4)
)
ZEROS_MATRIX = "The matrix is\n" + "\n".join(" ".join("1" if i == j else "0" for j in range(7)) for i in range(7))
FEATURES = "| Feature | Ours | Theirs | Others |\n|:--|:-:|:-:|:-:|\n" + "\n".join(
    f"| {name} | Yes | Yes | No |"
    for name in ["Speed", "Memory", "Safety", "Concurrency", "Tooling", "Libraries", "Docs", "Tests", "Price"]
)
MULTIPLICATION = "\n".join(f"{a} x {b} = {a * b}" for a in range(1, 11) for b in range(1, 11))
CHANT = "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream. " * 2
RULED = "Totals\n" + "=" * 400 + "\n" + PROSE + "\n" + "-" * 400
NUMBERED = "\n".join(
    f"{i}. Step {i}: heat the {what} until it is warm, then stir it slowly and let it rest for {i} minutes."
    for i, what in enumerate(["milk", "butter", "cream", "sugar", "honey", "flour", "syrup", "cocoa"], 1)
)
GOOD = [PROSE, CODE, TRUTH_TABLE, ZEROS_MATRIX, FEATURES, MULTIPLICATION, CHANT, RULED, NUMBERED]

LOOPS = [
    PROSE + " and so on" * 40,
    PROSE + " " + "The sun is a star. It is hot. " * 12,
    PROSE + "\n" + "I think that the answer is that " * 8 + "I th",
    "the " * 200,
    "ha" * 300,
    "def f(x):\n    return x\n\n" * 30,
    "| 1 | 2 | 3 |\n" * 40,
    "\n".join(f"{i}. The capital of the country is the capital of the country." for i in range(30)),
    "光が散乱する。" * 60,
    "=" * 3000,
    (PROSE + "\n\n") * 5,
    "The sun is a star, and it is hot. " * 30 + "That is all there is to say about it, in my humble opinion, today.",
]


@pytest.mark.parametrize("text", GOOD)
def test_prose_code_and_tables_pass(text):
    assert answer_problem(text, "stop", 30) is None


@pytest.mark.parametrize("text", LOOPS)
def test_loops_are_repetitive(text):
    assert answer_problem(text, "stop", 30) == "repetitive"


@pytest.mark.parametrize(
    ("text", "finish_reason", "reason"),
    [
        ("", "stop", "empty"),
        (" \n\t", "stop", "empty"),
        ("", "length", "empty"),
        (PROSE, "length", "truncated"),
        ("x" * 30, "stop", "too_short"),
        ("Forty-two is the answer to it all.", "stop", None),
        ("I'm sorry, but I can't assist with that request.", "stop", "refusal"),
    ],
)
def test_each_gate_names_its_reason(text, finish_reason, reason):
    assert answer_problem(text, finish_reason, 30) == reason


def test_the_finish_reason_decides_on_truncation_not_the_last_character():
    assert answer_problem(PROSE.rstrip("."), "stop", 30) is None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I can’t assist with this request.",
        "Sorry, I cannot provide instructions for that.",
        "I cannot fulfill this request.",
        "As an AI language model, I don't have personal opinions on this.",
        "As an AI, I cannot answer questions about people.",
        "I am unable to generate a question on this topic.",
        "Unfortunately, I can't create that content.",
        "I'm an AI assistant, so I can't browse the web.",
        "I won't write that.",
        "I am not able to do this for you.",
        "I don't have access to real-time data, so I do not know the current price.",
        "I'm not comfortable discussing that.",
        "I am not comfortable with this request.",
        "I can't help with that, but I can help you with something else.",
        "I'm sorry, I can't discuss that. Let's talk about something else. Let me know what you would like.",
        "I'm afraid I can't help with that request.",
        "I must respectfully decline to answer this.",
        "I must decline this request.",
        "I won't be able to help with that.",
        "I regret that I cannot help.",
        "Apologies, but I can't assist with that.",
        "Hello! I can't help with that request, sadly.",
        "I do not feel comfortable answering this.",
        "I'm sorry, but I can't recommend anything of the kind.",
        "I'm sorry, but I can't tell you that. Please ask a professional, who will know what to do.",
        "I cannot provide medical advice. " + "Please see a doctor soon, and take care of yourself. " * 5,
    ],
)
def test_refusals_are_recognised_at_the_start(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I can't help but admire how Newton split white light.",
        "I'm sorry to hear that your plant is dying. Water it less.",
        "I cannot overstate how important units are.",
        "As an AI researcher, you would start from the data, and you do not stop there.",
        "No. The claim is false, because zero is even.",
        "Unfortunately, the integral has no closed form.",
        "The model says: I'm sorry, but I can't assist with that. Why does it say so?",
        "You cannot help the patient without a diagnosis.",
        "Not able to fly, the ostrich runs.",
        "I don't have access to the exact figures, but here is how to estimate them: take the area and divide it.",
        "I don't have access to the exact figures. However, here's a rough estimate: about forty thousand.",
        "I am not comfortable in crowds, which is why I go to the market at dawn.",
        "I am not comfortable with heights, which is why I chose the valley path.",
        "I'm not able to run your program, but I can explain what it prints: the numbers from 1 to 9.",
        "As an AI, I cannot answer for every country. Let's start with France. Its law is the code of 1804.",
        "I cannot provide the original text. " + PROSE * 2,
        "I'm afraid I can't agree: the integral diverges.",
        "\"I'm sorry, I can't tell you,\" she whispered, and the lamp went out.",
        "I'm sorry, I can't stay, she whispered, and the lamp went out.",
        "I'm sorry, but I can't make it to dinner on Friday. Love, Ann",
        "I cannot sleep, said the owl, for the moon is far too bright tonight.",
        "I am afraid of heights, and I cannot climb the tower.",
        "I must decline the noun first: rosa, rosae, rosae, rosam.",
        "I'm sorry, but I can't count them all. " + PROSE,
        "",
    ],
)
def test_answers_that_only_sound_like_refusals_pass(text):
    assert not is_refusal(text)


def test_a_question_in_which_a_person_asks_for_help_is_no_refusal():
    text = "I can't write a good ending for my story about lighthouses. How would you go about it?"
    assert question_problem(text, "stop", 30) is None
    assert answer_problem(text, "stop", 30) == "refusal"


def test_a_question_that_declines_is_a_refusal():
    assert question_problem("I'm sorry, but I cannot write a question on that topic.", "stop", 30) == "refusal"


@given(st.text(max_size=3000))
def test_every_text_gets_a_verdict(text):
    assert answer_problem(text, "stop", 30) in {None, "empty", "too_short", "refusal", "repetitive"}
    assert 0 <= repeated_share(text) <= 1


@pytest.mark.parametrize("text", ["a" * 100_000, "ab " * 40_000, "I can't " * 20_000, PROSE * 200, "\n" * 100_000])
def test_long_texts_take_no_time_that_grows_with_their_square(text):
    began = time.process_time()
    answer_problem(text + "end", "stop", 30)
    assert time.process_time() - began < 15  # the quadratic way takes minutes


def test_a_text_said_twice_is_not_yet_a_loop():
    assert not is_repetitive(PROSE + "\n\nTo repeat:\n\n" + PROSE)
