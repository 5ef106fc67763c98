"""What one request to an engine asks of vLLM where the model thinks, and what becomes of what was decoded."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from thinking_templates import TemplateTokenizer, template_tokenizer

from bohdi_ray.config import VllmModel
from bohdi_ray.engines.chat.style import DEFAULT_ROOM, ChatStyles
from bohdi_ray.engines.vllm import answers as answers_of_vllm
from bohdi_ray.engines.vllm import api
from bohdi_ray.engines.vllm.answers import Answers
from bohdi_ray.errors import PromptTooLong
from bohdi_ray.records import ROLES, EngineReply, GenerationRequest, SamplingSpec, ScoreRequest

WINDOW = 20_000
DEFAULTS = {"choices": None, "regex": None, "show_control_tokens": False}


@pytest.fixture(autouse=True)
def plain_params(monkeypatch):
    """Parameters as they are given; vLLM is not needed to look at them."""
    monkeypatch.setattr(answers_of_vllm, "generation_params", lambda **given: SimpleNamespace(**DEFAULTS | given))
    monkeypatch.setattr(answers_of_vllm, "scoring_params", lambda: SimpleNamespace(scores=True))
    monkeypatch.setattr(api, "prompt_logprobs", lambda output: output.logprobs)
    monkeypatch.setattr(api, "first_token_logprobs", lambda output, tokenizer: [("A", -0.1), ("B", -2.4)])


class Engine:
    """Answers of a model whose engine decodes the texts it is given, one after another, up to what is asked for."""

    def __init__(self, name: str, *decoded: str, window: int = WINDOW, thinks: bool = True, **model):
        self.tokenizer: TemplateTokenizer = template_tokenizer(name)
        self.decoded, self.asked = list(decoded), []
        config = VllmModel(name="m", model="/m", **model)
        styles = ChatStyles("m", self.tokenizer, {role: config.sampling_of(role) for role in ROLES}, thinks)
        self.answers = Answers("m", None, self.tokenizer, window, self._decode, styles)

    async def _decode(self, ids, params):
        self.asked.append((self.tokenizer.decode(ids), params))
        if hasattr(params, "scores"):
            return SimpleNamespace(logprobs=[-1.0] * (len(ids) - 1))
        ids = self.tokenizer.encode(self.decoded.pop(0))
        reason = "stop" if len(ids) <= params.max_tokens else "length"
        ids = ids[: params.max_tokens]
        text = self.tokenizer.decode(ids, skip_special_tokens=not params.show_control_tokens)
        if getattr(params, "stop", None) and params.stop in text:
            text = text[: text.index(params.stop)]
        return SimpleNamespace(outputs=[SimpleNamespace(text=text, token_ids=ids, finish_reason=reason)])

    def ask(self, role: str = "answer", max_tokens: int = 10, room: int = 0, **fields) -> EngineReply:
        request = GenerationRequest("id", role, "Why?", SamplingSpec(0.5, 0.9, max_tokens, 3, room), **fields)
        return asyncio.run(self.answers.answer(request, 0))


def test_an_answers_reasoning_is_kept_apart_and_its_tokens_are_counted():
    engine = Engine("qwen3", "<think>\nHm.\n</think>\n\nFour.")
    done = engine.ask()
    assert (done.text, done.reasoning, done.finish_reason) == ("Four.", "Hm.", "stop")
    assert done.num_tokens == len("<think>\nHm.\n</think>\n\nFour.")
    prompt, params = engine.asked[0]
    assert prompt.endswith("<|im_start|>assistant\n") and params.max_tokens == 10 + DEFAULT_ROOM["answer"]


def test_a_block_that_the_prompt_opened_is_seen():
    done = Engine("r1", "Hm.\n</think>\n\nFour.").ask(room=100)
    assert (done.text, done.reasoning) == ("Four.", "Hm.")


def test_room_for_reasoning_does_not_make_an_answer_longer():
    long = Engine("qwen3", "<think>\nHm.\n</think>\n\n" + "x" * 11).ask(max_tokens=10, room=100)
    assert (long.text, long.finish_reason) == ("x" * 10, "length")
    fits = Engine("qwen3", "<think>\nHm.\n</think>\n\n" + "x" * 10).ask(max_tokens=10, room=100)
    assert (fits.text, fits.finish_reason) == ("x" * 10, "stop")
    silent = Engine("qwen3", "x" * 30).ask(max_tokens=10, room=100)  # it did not think at all
    assert (silent.text, silent.finish_reason) == ("x" * 10, "length")


def test_reasoning_that_uses_up_all_room_leaves_no_answer():
    done = Engine("r1", "x" * 200).ask(max_tokens=10, room=50)
    assert (done.text, done.reasoning, done.finish_reason) == ("", "x" * 60, "length")


def test_a_model_without_reasoning_is_asked_as_it_always_was():
    engine = Engine("plain", " Four.\n")
    assert engine.ask(max_tokens=10).text == " Four.\n"
    assert engine.asked[0][1].max_tokens == 10


def test_a_model_that_is_not_to_think_is_asked_with_its_block_closed():
    for name in ("qwen3", "r1"):
        engine = Engine(name, "Four.", thinks=False)
        assert engine.ask().reasoning == ""
        prompt, params = engine.asked[0]
        assert prompt.endswith("<think>\n\n</think>\n\n") and params.max_tokens == 10


def test_channels_are_told_apart_by_control_tokens_which_no_text_keeps():
    text = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Four.<|return|>"
    engine = Engine("gpt-oss", text)
    done = engine.ask()
    assert (done.text, done.reasoning) == ("Four.", "Hm.")
    assert engine.asked[0][1].show_control_tokens
    done = Engine("magistral", "[THINK]Hm.[/THINK]Four.</s>").ask()
    assert (done.text, done.reasoning) == ("Four.", "Hm.")


@pytest.mark.parametrize("role", ["judge", "sprout"])
@pytest.mark.parametrize("constraint", [{"choices": ("A", "B")}, {"regex": "[AB]"}])
@pytest.mark.parametrize("name", ["qwen3", "r1"])
def test_labels_and_names_are_asked_for_without_thinking(name, constraint, role):
    engine = Engine(name, "A")
    done = engine.ask(role, **constraint)
    ((prompt, params),) = engine.asked
    assert prompt.endswith("assistant\n<think>\n\n</think>\n\n") or prompt.endswith(
        "<|Assistant|><think>\n\n</think>\n\n"
    )
    assert (params.choices, params.regex) == (constraint.get("choices"), constraint.get("regex"))
    assert done.text == "A" and done.reasoning == ""


@pytest.mark.parametrize(
    ("name", "opened", "written", "end"),
    [
        ("qwen3", "<|im_start|>assistant\n<think>\n", "Let me see.\n</think>", "\n</think>\n\n"),
        ("r1", "<|Assistant|><think>\n", "Let me see.\n</think>", "\n</think>\n\n"),
        ("magistral", "[/INST][THINK]", "Let me see.[/THINK]", "[/THINK]"),
        (
            "gpt-oss",
            "<|start|>assistant<|channel|>analysis<|message|>",
            "Let me see.<|end|>",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
        ),
    ],
)
@pytest.mark.parametrize("constraint", [{"choices": ("A", "B")}, {"regex": "[AB]"}])
def test_with_room_a_judge_thinks_first_and_the_label_follows_its_reasoning(name, opened, written, end, constraint):
    engine = Engine(name, written, "A")
    done = engine.ask("judge", room=50, **constraint)
    (first, thinking), (second, choosing) = engine.asked
    assert first.endswith(opened) and second == first + "Let me see." + end
    assert (thinking.choices, thinking.regex, thinking.max_tokens) == (None, None, 50)
    assert (choosing.choices, choosing.regex) == (constraint.get("choices"), constraint.get("regex"))
    assert (done.text, done.reasoning) == ("A", "Let me see.")
    assert done.num_tokens == len(engine.tokenizer.encode(written)) + 1
    if "choices" in constraint:
        assert done.choice_logprobs["A"] > done.choice_logprobs["B"]


def test_a_judge_that_does_not_come_to_an_end_is_asked_for_its_label_all_the_same():
    engine = Engine("qwen3", "x" * 100, "B")
    assert engine.ask("judge", room=50, choices=("A", "B")).text == "B"
    assert engine.asked[1][0].endswith("<think>\n" + "x" * 50 + "\n</think>\n\n")


def test_a_judges_reasoning_leaves_room_for_the_label_in_the_window():
    engine = Engine("qwen3", "x" * 300, "B", window=200)
    assert engine.ask("judge", room=5000, choices=("A", "B")).text == "B"
    assert len(engine.tokenizer.encode(engine.asked[1][0])) + 2 <= 200
    too_small = Engine("qwen3", window=len(engine.tokenizer.encode(engine.asked[0][0])) + 10)
    assert isinstance(too_small.ask("judge", room=5000, choices=("A", "B")).error, PromptTooLong)


def test_scores_are_of_the_answer_itself_not_of_one_in_a_block_of_reasoning():
    engine = Engine("r1")
    asyncio.run(engine.answers.answer(ScoreRequest("id", "answer", "Why?", "Four."), 0))
    assert engine.asked[0][0].endswith("<|Assistant|><think>\n\n</think>\n\nFour.")
