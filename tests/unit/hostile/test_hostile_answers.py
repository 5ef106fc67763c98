"""Whatever a model or a server answers: a value or a refusal, in bounded time, and nothing that cannot be stored."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace as Reply

import pytest
from fakes import ScriptedModels
from hostile_input import ANY_TEXT, HOSTILE, examples, harms, within
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.config import JUDGES, FusionConfig
from bohdi_ray.engines.chat.rendering import strip_control_tokens
from bohdi_ray.engines.openai import CONTROL_TOKENS, completion_of
from bohdi_ray.engines.prompts import clean_text, fence_marks, parse_label, parse_name, parse_question
from bohdi_ray.engines.quality import answer_problem, question_problem
from bohdi_ray.engines.vllm.choices import first_token_choices, labelled
from bohdi_ray.errors import RemoteFailed, RequestRefused
from bohdi_ray.examples.duplicates import near_duplicate_rate
from bohdi_ray.examples.sample_table import from_table, to_table
from bohdi_ray.harvest.harvest import FAILURES, harvest_one
from bohdi_ray.harvest.judges.judging import FLOOR, label_logprobs
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.harvest.sprout import sprout
from bohdi_ray.languages.names import MAX_LENGTH, is_word
from bohdi_ray.languages.questions import normalised
from bohdi_ray.records import (
    EngineReply,
    GenerationRequest,
    SamplingSpec,
    SproutRequest,
    Ticket,
    question_hash,
    ticket_id,
)
from bohdi_ray.tree.names import valid_name

LABELS = ("A", "B", "C")
N = 1_000_000
# A megabyte each, of what makes patterns look at the same text again and again.
LONG = {
    "blank lines": "a" + "\n" * N + "b",
    "marks in front of nothing": "a\n" + ">" * N + "b",
    "stars": "a\n" + "*" * N + "b",
    "an opening fence of tildes": "~" * 10_000 + "\n" + "x\n" * (N // 2) + "b",
    "fences that do not close": "```\n" + "\n```" * (N // 4) + "x",
    "fences and spaces": "```\n" + ("\n```" + " " * 500) * (N // 500) + "x",
    "answers": "a" + "\nanswer" * (N // 7),
    "an answer and stars": "a\nanswer" + "*" * N + "x",
    "a label and spaces": "Question" + " " * N + "x",
    "combining marks": "a" + "\u0301\u0323" * (N // 2),
    "one letter that becomes eighteen": "\ufdfa" * (N // 18),
    "half a token": "<|im_" * (N // 5),
    "tokens in tokens": "<|im_end" * (N // 10) + "|>" * (N // 10),
    "lone surrogates": "\ud800" * N,
    "NUL": "\0" * N,
    "one word": "x" * N,
    "words": "ab " * (N // 3),
    "digits": "\n1." * (N // 3),
    "labels": "A B " * (N // 4),
    "quotes": '"' * N,
    "punctuation": "!" * N + "b",
    "no words": "\u4e2d" * N,
}
PARSERS = {
    "question": parse_question,
    "name": lambda text: valid_name(parse_name(text)),
    "bare name": valid_name,
    "label": lambda text: parse_label(text, LABELS),
    "labelled": lambda text: labelled(text, [], LABELS),
    "answer gate": lambda text: answer_problem(text, "stop", 30),
    "question gate": lambda text: question_problem(text, "stop", 30),
    "hash": lambda text: question_hash(clean_text(text)),
    "tokens": lambda text: strip_control_tokens(text, CONTROL_TOKENS),
    "fence": lambda text: fence_marks(text, text),
}


@pytest.mark.parametrize("kind", LONG)
def test_a_megabyte_of_anything_is_parsed_in_time(kind):
    text = LONG[kind]
    for parse in PARSERS.values():
        with within(10):
            parse(text)


def test_long_runs_of_marks_change_no_ordinary_question():
    assert normalised("Où est le cafe\u0301 ?") == "où est le café"
    assert normalised("a" + "\u0301" * 3 + "b") == normalised("a" + "\u0301" * 3 + "b ")
    assert normalised("\u1e69") == normalised("s\u0323\u0307") == normalised("s\u0307\u0323")


def test_near_repeats_of_megabytes_are_counted_in_time():
    questions = [f"{i} " + "why does it " * (N // 12) + str(i) for i in range(3)]
    with within(6):
        assert near_duplicate_rate({("A",): questions}) == pytest.approx(2 / 3)


@examples(140)
@given(text=ANY_TEXT)
def test_any_text_is_parsed_into_something_that_can_be_stored(text):
    question = parse_question(text)
    question.encode()
    assert not any((ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) <= 0x9F for c in question)
    name = valid_name(parse_name(text))
    assert name is None or (all(map(is_word, name.split(" "))) and len(name) <= MAX_LENGTH and valid_name(name) == name)
    assert name is None or harms(name, "") == []
    assert parse_label(text, LABELS) in (None, *LABELS)
    assert labelled(text, [], LABELS)[0] in (text, *LABELS)
    stripped = strip_control_tokens(text, CONTROL_TOKENS)
    assert not any(token in stripped for token in CONTROL_TOKENS)
    begin, end = fence_marks(text, text[::-1])
    assert not any(mark in part for mark in (begin, end) for part in (text, text[::-1]))
    assert len(question_hash(question)) == 32


NUMBERS = st.floats() | st.sampled_from([0.0, 1e308, -1e308, math.nan, math.inf, -math.inf, 710.0, 5, -3])


@examples(90)
@given(entries=st.lists(st.tuples(st.sampled_from(["A", "B", " A", "", "AB", "\ud800"]), NUMBERS), max_size=6))
def test_log_probabilities_of_any_size_give_probabilities(entries):
    for found in (first_token_choices(entries, LABELS), labelled("", entries, LABELS)[1]):
        if found is not None:
            assert sum(map(math.exp, found.values())) == pytest.approx(1, abs=1e-3)
    done = EngineReply("x", "m", 0, text="A", finish_reason="stop", choice_logprobs=dict(entries) or None)
    values = label_logprobs(done, len(LABELS))
    assert values is not None and all(FLOOR <= value <= 1e-9 for value in values)


ODD = st.none() | st.booleans() | NUMBERS | st.text(max_size=3) | st.lists(st.integers(), max_size=2) | st.just({})


@examples(140)
@given(data=st.data())
def test_any_reply_of_a_server_is_an_answer_or_a_refusal(data):
    """Replies as the client hands them on: it checks no types, and gives None for what is missing."""

    def odd(usual):
        return data.draw(ODD) if data.draw(st.integers(0, 4)) == 0 else usual

    token = Reply(token=odd("A"), logprob=odd(-0.1), top_logprobs=None)
    logprobs = Reply(
        content=data.draw(st.sampled_from([None, [], [Reply(token="A", logprob=-1, top_logprobs=[token])], [token]]))
    )
    message = data.draw(st.sampled_from([None, Reply(content=odd("A good answer."))]))
    answer = Reply(finish_reason=odd("stop"), message=message, logprobs=data.draw(st.sampled_from([None, logprobs])))
    usage = data.draw(st.sampled_from([None, Reply(prompt_tokens=odd(3), completion_tokens=odd(4))]))
    reply = Reply(usage=usage, choices=data.draw(st.sampled_from([None, [], [answer]])))
    spec = SamplingSpec(0.0, 1.0, 8, 0)
    request = GenerationRequest("id", "judge", "p", spec, choices=data.draw(st.sampled_from([None, LABELS])))
    done = completion_of(reply, request, EngineReply("id", "remote", 0))
    assert isinstance(done.text, str) and done.num_tokens >= 0 and done.num_prompt_tokens >= 0
    assert (done.error is None) != (done.finish_reason is None)
    assert done.error is None or isinstance(done.error, RequestRefused)
    if request.choices is not None and done.error is None:
        label_logprobs(done, len(LABELS))


@pytest.mark.parametrize("content", [None, [{"type": "image_url"}, 7, None], {"a": 1}, 7, b"bytes", [[["A"]]]])
def test_an_answer_that_is_no_text_is_empty(content):
    answer = Reply(finish_reason="stop", message=Reply(content=content), logprobs=None)
    request = GenerationRequest("id", "answer", "p", SamplingSpec(0, 1, 8, 0))
    done = completion_of(Reply(usage=None, choices=[answer]), request, EngineReply("id", "m", 0))
    assert done.text == "" and answer_problem(done.text, done.finish_reason, 30) == "empty"


def test_a_page_instead_of_a_reply_says_what_to_check():
    with pytest.raises(RemoteFailed, match="base_url"):
        completion_of(
            "<html>", GenerationRequest("id", "judge", "p", SamplingSpec(0, 1, 8, 0)), EngineReply("id", "m", 0)
        )


def plan_for(judge: str) -> HarvestPlan:
    model = {"kind": "vllm", "model": "./m"}
    config = FusionConfig.model_validate(
        {
            "run_dir": "/nowhere",
            "sources": [{"name": name, **model} for name in ("alpha", "beta", "gamma")],
            "target": {"name": "student", **model},
            "judge": {"kind": judge},
        }
    )
    return HarvestPlan.from_config(config)


PLANS = {kind: plan_for(kind) for kind in JUDGES}


@examples(70)
@given(data=st.data())
def test_a_harvest_of_hostile_models_gives_a_sample_that_can_be_stored_or_a_counted_failure(data):
    """Any text from any role, odd log-probabilities from judges; what comes of it goes through Parquet unchanged."""
    models = ScriptedModels()
    for role in ("question", "answer", "judge"):
        for _ in range(data.draw(st.integers(0, 4))):
            long = data.draw(ANY_TEXT) + " What is it, and why does it matter so much?"
            models.queue_completion(role=role, text=data.draw(ANY_TEXT | st.just(long)))
    odd = data.draw(st.dictionaries(st.sampled_from(["A", "B", "C", "D", "Z"]), NUMBERS, max_size=4) | st.none())
    models.queue_completion(role="judge", choice_logprobs=odd, logprob=data.draw(NUMBERS | st.none()), times=2)
    ticket = Ticket(ticket_id(0, 0, 0), 0, 0, 0, ("Science", "Optics"), 0)
    plan = PLANS[data.draw(st.sampled_from(sorted(PLANS)))]
    with within(10):
        outcome, sample = asyncio.run(harvest_one(ticket, models, plan))
    assert (sample is None) == (outcome.failure is not None)
    assert outcome.failure is None or outcome.failure in FAILURES
    if sample is not None:
        assert from_table(to_table([sample])) == [sample]
        assert all(map(math.isfinite, sample.verdict.scores.values()))


@examples(30)
@given(texts=st.lists(ANY_TEXT | st.sampled_from(["1. Optics", "2. CON", "3. ../../etc"]), min_size=1, max_size=15))
def test_proposals_of_hostile_models_are_names_or_counted_as_invalid(texts):
    models = ScriptedModels()
    for text in texts:
        models.queue_completion(role="sprout", text=text)
    proposals = asyncio.run(sprout(SproutRequest("sprout/0", (), 0, False), models, PLANS["leader"]))
    assert all(valid_name(name) == name for name in proposals.names)
    assert len(proposals.names) + proposals.num_invalid == 15


def test_the_hostile_examples_really_reach_the_samples():
    """So that the tests above do not pass because everything is refused."""
    models = ScriptedModels()
    text = f"{HOSTILE[0]} What is it, and why does it matter so much?"
    models.queue_completion(role="question", text=text)
    _, sample = asyncio.run(harvest_one(Ticket(ticket_id(0, 0, 0), 0, 0, 0, ("A", "B"), 0), models, PLANS["leader"]))
    assert sample is not None and sample.question == text
