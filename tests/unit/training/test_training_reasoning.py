"""What a target that thinks learns: its prompt is the engine's to the token, and no row teaches it not to think."""

from __future__ import annotations

import pytest
from thinking_templates import TEMPLATES, template_tokenizer

from bohdi_ray.config import VllmModel
from bohdi_ray.engines.chat.style import ChatStyles
from bohdi_ray.engines.vllm.answers import Answers
from bohdi_ray.examples.kinds import Completion
from bohdi_ray.records import ROLES
from bohdi_ray.training.batches.encoding import EncodedRow, Encoder

THINKING = [name for name in TEMPLATES if name != "plain"]


def row(question: str = "Why?", answer: str = "Because.", reasoning: str = "") -> Completion:
    return Completion("s", question, answer, reasoning)


def encoded(name: str, given: Completion, max_length: int = 1000, **options) -> tuple[str, str]:
    """Prompt and answer of a row, as text."""
    tokenizer = template_tokenizer(name)
    done = Encoder(tokenizer, None, max_length, **options).encode(given.question, given.answer, given.reasoning)
    assert isinstance(done, EncodedRow)
    return tokenizer.decode(done.ids[: done.num_prompt]), tokenizer.decode(done.ids[done.num_prompt :])


def engine_prompt(name: str, thinks: bool, question: str = "Why?", system_prompt: str | None = None) -> str:
    tokenizer, model = template_tokenizer(name), VllmModel(name="m", model="/m")
    styles = ChatStyles("m", tokenizer, {role: model.sampling_of(role) for role in ROLES}, thinks)
    answers = Answers("m", system_prompt, tokenizer, 9999, None, styles)
    return tokenizer.decode(answers.prompt_ids(question, styles.style("answer", thinks)))


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_rows_prompt_is_what_the_targets_engine_is_asked_and_its_answer_what_it_would_decode(name):
    prompt, answer = encoded(name, row())
    assert prompt == engine_prompt(name, thinks=False)
    assert answer == "Because." + TEMPLATES[name][2]


@pytest.mark.parametrize("name", THINKING)
def test_an_answer_that_names_the_tags_is_learnt_whole(name):
    text = "Write <think> first, then </think>, then 4 < 5."
    assert encoded(name, row(answer=text))[1] == text + TEMPLATES[name][2]


@pytest.mark.parametrize("name", THINKING)
def test_kept_reasoning_is_learnt_in_a_block_behind_the_prompt_that_asks_for_it(name):
    prompt, answer = encoded(name, row(reasoning="Let me see."), reasoning="keep")
    assert prompt == engine_prompt(name, thinks=True)
    assert "Let me see." in answer and answer.endswith("Because." + TEMPLATES[name][2])


def test_blocks_are_written_as_the_family_writes_them():
    assert encoded("qwen3", row(reasoning="Hm."), reasoning="keep")[1] == "<think>\nHm.\n</think>\n\nBecause.<|im_end|>"
    assert encoded("qwen3.5", row(reasoning="Hm."), reasoning="keep")[1] == "Hm.\n</think>\n\nBecause.<|im_end|>"


@pytest.mark.parametrize("name", THINKING)
def test_a_row_without_reasoning_is_learnt_with_thinking_switched_off(name):
    assert encoded(name, row(), reasoning="keep") == encoded(name, row())


def test_reasoning_that_does_not_fit_is_left_out_whole():
    long = row(reasoning="x" * 500)
    assert encoded("qwen3", long, 200, reasoning="keep") == encoded("qwen3", row())


def test_reasoning_is_not_learnt_when_it_is_off():
    assert encoded("qwen3", row(reasoning="Hm.")) == encoded("qwen3", row())


def test_variables_of_the_answer_role_reach_the_rows():
    prompt, _ = encoded("gpt-oss", row(), template_kwargs={"reasoning_effort": "low"})
    assert "Reasoning: low" in prompt


def test_probe_exchanges_are_rows():
    tokenizer = template_tokenizer("r1")
    encoder = Encoder(tokenizer, None, 1000)
    assert tokenizer.decode(encoder.exchange_ids("Why?", "Because.")) == "".join(encoded("r1", row()))


def test_control_tokens_are_stripped_from_kept_reasoning():
    _, answer = encoded("qwen3", row(reasoning="Hm.<|im_end|><|im_start|>user"), reasoning="keep")
    assert answer.count("<|im_end|>") == 1 and "<|im_start|>" not in answer
