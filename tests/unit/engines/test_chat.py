"""Chat templating and the stripping of control tokens, over a stand-in for a tokenizer that only renders."""

import json
import time
from dataclasses import dataclass, field

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.engines.chat.rendering import (
    chat_shape,
    render_chat,
    special_tokens_of,
    strip_control_tokens,
)
from bohdi_ray.engines.chat.template_trial import ChatShape, render_of
from bohdi_ray.errors import ConfigError

SPECIAL = ("<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]")
WITH_SYSTEM = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
RAISES = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + WITH_SYSTEM
DROPS = "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"


@dataclass
class Token:
    text: str
    special: bool

    def __str__(self):
        return self.text


@dataclass
class Renderer:
    template: str
    all_special_tokens: list = field(default_factory=list)
    added_tokens_decoder: dict = field(default_factory=dict)

    def apply_chat_template(self, messages, tokenize, add_generation_prompt, **kwargs):
        def raise_exception(message):
            raise jinja2.exceptions.TemplateError(message)

        assert not tokenize
        return jinja2.Template(self.template).render(messages=messages, raise_exception=raise_exception, **kwargs)


def test_a_template_with_a_system_role_is_not_folded():
    tokenizer = Renderer(WITH_SYSTEM)
    shape = chat_shape(tokenizer)
    assert not shape.folded
    assert render_chat(tokenizer, "Be brief.", "Hi", shape) == "<system>Be brief.<user>Hi<assistant>"


@pytest.mark.parametrize("template", [RAISES, DROPS])
def test_a_template_that_raises_or_drops_the_system_prompt_gets_it_in_the_user_turn(template):
    tokenizer = Renderer(template)
    shape = chat_shape(tokenizer)
    assert shape.folded
    assert "<user>Be brief.\n\nHi" in render_chat(tokenizer, "Be brief.", "Hi", shape)


def test_variables_of_the_template_reach_it():
    tokenizer = Renderer(WITH_SYSTEM + "{% if enable_thinking is defined and not enable_thinking %}<no>{% endif %}")
    assert render_chat(tokenizer, None, "Hi", ChatShape(), {"enable_thinking": False}).endswith("<no>")
    assert render_chat(tokenizer, None, "Hi", ChatShape()).endswith("<assistant>")


def test_without_a_system_prompt_there_is_only_the_user_turn():
    only = [{"role": "user", "content": "Hi"}]
    assert ChatShape(folded=True).messages(None, "Hi") == ChatShape(folded=False).messages("", "Hi") == only


def test_special_tokens_are_those_with_a_role_and_those_only_marked():
    tokenizer = Renderer("", ["<s>"], {5: Token("<|tool|>", True), 6: Token("<think>", False), 7: Token(" ", True)})
    assert special_tokens_of(tokenizer) == ("<s>", "<|tool|>")


def test_text_without_control_tokens_comes_back_unchanged():
    assert strip_control_tokens("a < b and [1] | 2", SPECIAL) == "a < b and [1] | 2"
    assert strip_control_tokens("<s>", ()) == "<s>"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a<|im_end|>b", "ab"),
        ("<|im_<|im_end|>end|>x", "x"),
        ("<<s>s><s<s>>", ""),
        ("[IN[IN[INST]ST]ST]!", "!"),
        ("<|im_<s>st<s>art|>", ""),
    ],
)
def test_control_tokens_go_also_where_taking_one_out_would_make_another(text, rest):
    assert strip_control_tokens(text, SPECIAL) == rest


@given(
    st.lists(st.sampled_from([*SPECIAL, "<|im_", "start|>", "end|>", "<", "s>", "[", "INST]", "x", " "]), max_size=30)
)
def test_nothing_that_is_built_from_pieces_of_control_tokens_leaves_one(pieces):
    stripped = strip_control_tokens("".join(pieces), SPECIAL)
    assert not any(token in stripped for token in SPECIAL)
    assert strip_control_tokens(stripped, SPECIAL) == stripped


def test_deep_nesting_costs_linear_time():
    depth = 20_000
    started = time.process_time()
    assert strip_control_tokens("<|im_" * depth + "end|>" * depth, SPECIAL) == ""
    assert time.process_time() - started < 15  # the quadratic way takes minutes


def test_a_folder_with_a_template_in_either_place_is_taken(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"}))
    render_of(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("x")
    render_of(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "x"}))
    render_of(tmp_path)


@pytest.mark.parametrize("content", [None, "{}", '{"chat_template": null}', "[]", "{"])
def test_a_folder_without_a_template_is_refused_with_a_remedy(tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(ConfigError) as raised:
        render_of(tmp_path)
    assert raised.value.remedy
