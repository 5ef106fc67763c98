"""No text of a model adds a turn to a chat: not to a prompt, a training row or what is sent to a server."""

from __future__ import annotations

import re
from typing import ClassVar

import jinja2
import pytest
from hostile_input import ANY_TEXT, examples
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.config import OpenAIModel
from bohdi_ray.engines.openai import CONTROL_TOKENS
from bohdi_ray.engines.openai.capabilities import Capabilities
from bohdi_ray.engines.openai.fields import body_of
from bohdi_ray.engines.vllm.answers import Answers
from bohdi_ray.records import GenerationRequest, SamplingSpec
from bohdi_ray.training.batches.encoding import EncodedRow, Encoder

SPEC = SamplingSpec(0.0, 1.0, 8, 0)


class Tokenizer:
    """A family's control tokens and template; every control token in a text is one id, as in the real ones."""

    chat_template = "its own"
    eos_token_id = 0
    added_tokens_decoder: ClassVar[dict] = {}

    def __init__(self, special: tuple[str, ...], template: str):
        self.all_special_tokens = list(special)
        self._template = jinja2.Template(template)
        self._cut = re.compile("|".join(re.escape(token) for token in special) + "|.", re.S)

    def convert_tokens_to_ids(self, tokens):
        return [self.all_special_tokens.index(token) for token in tokens]

    def encode(self, text, add_special_tokens=False):
        special = self.all_special_tokens
        return [special.index(t) if t in special else 1000 + ord(t) for t in self._cut.findall(text)]

    def apply_chat_template(self, messages, tokenize=True, add_generation_prompt=False, return_dict=False):
        text = self._template.render(messages=messages, more=add_generation_prompt)
        return self.encode(text) if tokenize else text

    def controls(self, ids):
        return [number for number in ids if number < 1000]


FAMILIES = {
    "ChatML": Tokenizer(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if more %}<|im_start|>assistant\n{% endif %}",
    ),
    "Llama 3": Tokenizer(
        ("<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}"
        "<|eot_id|>{% endfor %}{% if more %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    ),
    "Gemma": Tokenizer(
        ("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        "<bos>{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
        "{% if more %}<start_of_turn>assistant\n{% endif %}",
    ),
    "Mistral": Tokenizer(
        ("</s>", "<s>", "[INST]", "[/INST]"),
        "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{{ m.content }}</s>"
        "{% endif %}{% endfor %}",
    ),
}
FORGED = st.lists(
    st.sampled_from([token for family in FAMILIES.values() for token in family.all_special_tokens])
    | st.sampled_from(["<|im_", "end|>", "[IN", "ST]", "<", "|>", "system\n", "You are owned. ", " "]),
    min_size=1,
    max_size=8,
).map("".join)


@pytest.mark.parametrize("family", FAMILIES)
@examples(30)
@given(text=FORGED | ANY_TEXT)
def test_no_text_adds_a_turn_to_a_prompt(family, text):
    tokenizer = FAMILIES[family]
    answers = Answers("m", None, tokenizer, 4096, None)
    plain = tokenizer.controls(answers.prompt_ids("plain"))
    assert len(plain) > 1
    assert tokenizer.controls(answers.prompt_ids(text)) == plain


@pytest.mark.parametrize("family", FAMILIES)
@examples(30)
@given(question=FORGED | ANY_TEXT, answer=FORGED | ANY_TEXT)
def test_no_text_adds_a_turn_to_a_training_row(family, question, answer):
    tokenizer = FAMILIES[family]
    encoder = Encoder(tokenizer, None, 4096)
    plain = encoder.encode("plain", "plain")
    row = encoder.encode(question, f"{answer} end")
    assert isinstance(plain, EncodedRow) and isinstance(row, EncodedRow)
    assert tokenizer.controls(row.ids) == tokenizer.controls(plain.ids)
    assert tokenizer.controls(row.ids[row.num_prompt :]) == tokenizer.controls(plain.ids[plain.num_prompt :])


@examples(40)
@given(text=FORGED | ANY_TEXT)
def test_no_control_token_of_a_common_family_is_sent_to_a_server(text):
    model = OpenAIModel(name="r", kind="openai", model="r", base_url="http://127.0.0.1:1/v1")
    sent = body_of(GenerationRequest("id", "answer", text, SPEC), model, Capabilities())
    assert [message["role"] for message in sent["messages"]] == ["user"]
    assert not any(token in sent["messages"][0]["content"] for token in CONTROL_TOKENS)
