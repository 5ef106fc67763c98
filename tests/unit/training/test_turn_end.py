"""Which control token closes an answer, for templates of the shapes that families have."""

from __future__ import annotations

import pytest

from bohdi_ray.engines.chat.folder_template import FolderTemplate
from bohdi_ray.engines.chat.template_trial import shape_of
from bohdi_ray.training.batches.turn_end import end_of_turn, end_position

SPECIAL = (
    *("<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<start_of_turn>"),
    *("<end_of_turn>", "<|eot_id|>", "<|end_of_text|>", "<s>", "</s>", "[INST]", "[/INST]", "<|start|>", "<|channel|>"),
    *("<|message|>", "<|return|>", "<|START|>", "<|END_RESPONSE|>", "<|END_OF_TURN|>", "<｜end▁of▁sentence｜>"),
)
LOOP = "{%- for m in messages -%}"
PHI3 = (
    LOOP + "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>\n' }}{%- else -%}{{ '<|endoftext|>' }}{%- endif -%}"
)
CHATML = LOOP + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor -%}"
GEMMA = LOOP + "{{ '<start_of_turn>' + m.role + '\n' + m.content + '<end_of_turn>\n' }}{%- endfor -%}"
LLAMA = LOOP + "{{ m.role + '\n\n' + m.content + '<|eot_id|>' }}{%- endfor -%}"
GRANITE = LOOP + "{{ m.role + m.content + '<|end_of_text|>\n' }}{%- endfor -%}"
R1 = LOOP + "{{ m.role + m.content + ('<｜end▁of▁sentence｜>' if m.role == 'assistant' else '') }}{%- endfor -%}"
MISTRAL = (
    LOOP + "{%- if m.role == 'user' -%}{{ '[INST]' + m.content + '[/INST]' }}{%- else -%}"
    "{{ ' ' + m.content + '</s>' }}{%- endif -%}{%- endfor -%}"
)
OLMO2 = (
    LOOP + "{%- if m.role == 'assistant' -%}{{ '<|assistant|>\n' + m.content + '<|endoftext|>' }}"
    "{%- if not loop.last -%}{{ '\n' }}{%- endif -%}{%- else -%}{{ '<|user|>\n' + m.content + '\n' }}{%- endif -%}"
    "{%- endfor -%}"
)
GPT_OSS = (
    LOOP + "{%- if m.role == 'assistant' -%}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{%- else -%}{{ '<|start|>user<|message|>' + m.content + '<|end|>' }}{%- endif -%}{%- endfor -%}"
)
COMMAND_R = (
    LOOP + "{%- if m.role == 'assistant' -%}{{ '<|START|>' + m.content + '<|END_RESPONSE|><|END_OF_TURN|>' }}"
    "{%- else -%}{{ m.content + '<|END_OF_TURN|>' }}{%- endif -%}{%- endfor -%}"
)
NOTHING_BEHIND = LOOP + "{{ '<|' + m.role + '|>\n' + m.content + '\n' }}{%- endfor -%}"
RAISES_IN_MIDDLE = (
    "{%- if messages | length > 2 -%}{{ raise_exception('one turn only') }}{%- endif -%}" + CHATML
)  # a template for one exchange


DEMANDS_SYSTEM = "{%- if messages[0].role != 'system' -%}{{ raise_exception('a system turn first') }}{%- endif -%}"


def position(template: str) -> int:
    render = FolderTemplate(template, {})
    return end_position(render, shape_of(render), SPECIAL)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param(PHI3, 2, id="phi-3"),
        pytest.param(DEMANDS_SYSTEM + PHI3, 2, id="phi-3 that wants a system turn"),
        pytest.param(CHATML, 1, id="chatml"),
        pytest.param(GEMMA, 1, id="gemma"),
        pytest.param(LLAMA, 1, id="llama-3"),
        pytest.param(GRANITE, 1, id="granite"),
        pytest.param(R1, 1, id="r1"),
        pytest.param(MISTRAL, 1, id="mistral"),
        pytest.param(OLMO2, 1, id="olmo-2"),
        pytest.param(GPT_OSS, 1, id="gpt-oss"),
        pytest.param(COMMAND_R, 1, id="command-r"),
        pytest.param(NOTHING_BEHIND, 0, id="no-end"),
        pytest.param(RAISES_IN_MIDDLE, 1, id="one-exchange-only"),
    ],
)
def test_the_end_of_a_turn_is_the_last_token_that_stands_behind_it_in_mid_conversation_too(template, expected):
    assert position(template) == expected


def test_an_answer_ends_at_the_end_of_its_turn_and_not_at_that_of_the_conversation():
    end, end_of_text, newline = 7, 8, 3
    special = frozenset({end, end_of_text})
    assert end_of_turn([1, 2, end, newline, end_of_text], special, end_of_text, 2) == [1, 2, end]


def test_special_tokens_in_front_of_the_answer_are_not_its_end():
    channel, message, final_token = 20, 21, 22
    special = frozenset({channel, message, final_token})
    assert end_of_turn([channel, 5, message, 1, 2, final_token], special, 9, 1)[-1] == final_token
    assert end_of_turn([channel, 5, message, 1, 2], special, 9, 0) == [channel, 5, message, 1, 2, 9]
