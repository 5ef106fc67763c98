"""How a model is asked to think or not, told from its template alone."""

from __future__ import annotations

import json

import pytest
from thinking_templates import TEMPLATES, TemplateTokenizer, template_tokenizer

from bohdi_ray.config import VllmModel
from bohdi_ray.engines.chat.reasoning import DIALECTS, HARMONY
from bohdi_ray.engines.chat.rendering import chat_shape, render_chat
from bohdi_ray.engines.chat.style import DEFAULT_ROOM, ChatStyles, exchange, habit_of, template_errors
from bohdi_ray.errors import ConfigError
from bohdi_ray.records import ROLES


def styles_of(name: str, thinks: bool = True, **model) -> ChatStyles:
    config = VllmModel(name="m", model="/models/m", **model)
    return ChatStyles("m", template_tokenizer(name), {role: config.sampling_of(role) for role in ROLES}, thinks)


def prompt(name: str, thinks: bool, **model) -> str:
    style = styles_of(name, **model).style("answer", thinks)
    tokenizer = template_tokenizer(name)
    shape = chat_shape(tokenizer, style.template_kwargs)
    return render_chat(tokenizer, None, "Why?", shape, style.template_kwargs) + style.suffix


@pytest.mark.parametrize(
    ("name", "start", "switch", "by_default"),
    [
        ("qwen3", "<think>", "enable_thinking", True),
        ("qwen3.5", "<think>", "enable_thinking", True),
        ("r1", "<think>", None, True),
        ("r1-old", "<think>", None, True),
        ("granite", "Here is my thought process:", "thinking", False),
        ("gpt-oss", "<|channel|>analysis<|message|>", None, True),
        ("magistral", "[THINK]", None, True),
    ],
)
def test_a_template_says_how_and_when_its_model_thinks(name, start, switch, by_default):
    habit = habit_of(template_tokenizer(name))
    assert habit.thinking is not None
    assert (habit.thinking.start, habit.switch, habit.by_default) == (start, switch, by_default)


def test_a_template_that_demands_a_system_turn_shows_how_its_model_thinks():
    template, *rest = TEMPLATES["qwen3"]
    demands = "{%- if messages[0].role != 'system' -%}{{ raise_exception('system first') }}{%- endif -%}"
    tokenizer = TemplateTokenizer(demands + template, *rest)
    config = VllmModel(name="m", model="/models/m")
    styles = ChatStyles("m", tokenizer, {role: config.sampling_of(role) for role in ROLES}, False)
    style, plain = styles.style("answer", False), styles_of("qwen3", False).style("answer", False)
    assert (styles.habit.switch, style.suffix, style.opened) == ("enable_thinking", plain.suffix, plain.opened)


def test_a_template_that_does_not_speak_of_reasoning_is_rendered_as_it_always_was():
    tokenizer = template_tokenizer("plain")
    assert habit_of(tokenizer).thinking is None and tokenizer.variables == []
    styles = styles_of("plain")
    style = styles.style("answer", thinks=True)
    assert (style.suffix, style.opened, style.shows_control_tokens) == ("", False, False)
    assert all(styles.room(role) == 0 for role in ROLES)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("qwen3", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("qwen3.5", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("r1", "<|Assistant|><think>\n\n</think>\n\n"),
        ("r1-old", "<|Assistant|><think>\n\n</think>\n\n"),
        ("granite", "<|start_of_role|>assistant<|end_of_role|>"),
        ("gpt-oss", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("magistral", "[/INST][THINK][/THINK]"),
        ("plain", "<|im_start|>assistant\n"),
    ],
)
def test_a_prompt_without_thinking_ends_where_the_answer_begins(name, end):
    assert prompt(name, thinks=False).endswith(end)
    assert not styles_of(name).style("answer", thinks=False).opened


@pytest.mark.parametrize(
    ("name", "opened"), [("qwen3", False), ("qwen3.5", True), ("r1", True), ("r1-old", False), ("gpt-oss", False)]
)
def test_a_prompt_with_thinking_is_the_templates_own(name, opened):
    style = styles_of(name).style("answer", thinks=True)
    assert (style.opened, style.suffix) == (opened, "")


def test_a_model_that_thinks_only_when_asked_is_asked_once_it_has_room():
    assert styles_of("granite").room("answer") == 0
    roomy = {"sampling": {"answer": {"reasoning_max_tokens": 100}}}
    assert styles_of("granite", **roomy).room("answer") == 100
    assert "thought process" in prompt("granite", True, **roomy) and "thought process" not in prompt("granite", False)


def test_room_is_what_is_asked_for_then_what_is_configured_then_the_roles_default():
    styles = styles_of(
        "qwen3", sampling={"answer": {"reasoning_max_tokens": 5}, "question": {"reasoning_max_tokens": 0}}
    )
    assert [styles.room(role) for role in ROLES] == [0, 0, 5, 0]
    assert styles.room("judge", 7) == 7 and styles.room("answer", 9) == 9
    assert [styles_of("r1").room(role) for role in ROLES] == [DEFAULT_ROOM[role] for role in ROLES]


def test_thinking_that_is_switched_off_gets_no_room():
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    assert all(styles_of("qwen3", **off).room(role) == 0 for role in ROLES)
    on_again = off | {"sampling": {"answer": {"chat_template_kwargs": {"enable_thinking": True}}}}
    assert styles_of("qwen3", **on_again).room("answer") == DEFAULT_ROOM["answer"]
    assert all(styles_of("qwen3", thinks=False).room(role, 100) == 0 for role in ROLES)


def test_variables_of_model_and_role_reach_the_template_the_roles_on_top():
    variables = {"chat_template_kwargs": {"reasoning_effort": "low"}}
    assert "Reasoning: low" in prompt("gpt-oss", True, **variables)
    high = {"sampling": {"answer": {"chat_template_kwargs": {"reasoning_effort": "high"}}}}
    assert "Reasoning: high" in prompt("gpt-oss", True, **variables, **high)


def test_a_variable_that_the_template_does_not_read_is_refused_with_the_ones_it_does():
    with pytest.raises(ConfigError) as refused:
        styles_of("qwen3", chat_template_kwargs={"enable_thinkin": False})
    assert refused.value.value == "enable_thinkin" and "enable_thinking" in refused.value.remedy
    with pytest.raises(ConfigError):
        styles_of("plain", chat_template_kwargs={"enable_thinking": False})


def test_plan_refuses_the_same_from_the_files_of_the_folder(tmp_path):
    wrong = VllmModel(name="m", model=str(tmp_path), chat_template_kwargs={"enable_thinkin": False})
    right = VllmModel(
        name="m", model=str(tmp_path), sampling={"judge": {"chat_template_kwargs": {"enable_thinking": False}}}
    )
    assert template_errors("target", wrong, tmp_path, True) == []  # no template: refused elsewhere
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATES["qwen3"][0]}))
    (error,) = template_errors("sources.0", wrong, tmp_path, False)
    assert (error.field, error.value) == ("sources.0.chat_template_kwargs", "enable_thinkin")
    assert template_errors("target", right, tmp_path, True) == []
    named = [{"name": "default", "template": TEMPLATES["plain"][0]}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert {error.field for error in template_errors("target", right, tmp_path, True)} == {
        "target.sampling.judge.chat_template_kwargs",
        "training.reasoning",
    }
    (tmp_path / "chat_template.jinja").write_text(TEMPLATES["r1"][0])
    assert [e.field for e in template_errors("target", right, tmp_path, True)] == [
        "target.sampling.judge.chat_template_kwargs"
    ]


def test_a_block_is_written_as_its_family_writes_it():
    qwen = DIALECTS[0]
    assert exchange(qwen, "Because.\n", opened=False) == "<think>\nBecause.\n</think>\n\n"
    assert exchange(qwen, "Because.", opened=True) == "Because.\n</think>\n\n"
    final = "<|start|>assistant<|channel|>final<|message|>"
    assert exchange(HARMONY, "Because.", opened=False) == f"<|channel|>analysis<|message|>Because.<|end|>{final}"
