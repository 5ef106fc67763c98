"""Chat templates of the shapes that thinking families have, and a tokenizer of one id per character for them.

The templates are ours, short, and do what the families' own do where it matters here: which variable turns reasoning
off, what the generation prompt ends with, and how past answers are written.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from jinja2.sandbox import ImmutableSandboxedEnvironment

# Past answers lose their reasoning, the last one gets an empty block; with `enable_thinking: false` the prompt has one.
QWEN3 = """\
{%- for m in messages -%}
{%- set content = m.content -%}
{%- if m.role == 'assistant' -%}
{%- set thought = '' -%}
{%- if '</think>' in content -%}
{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') -%}
{%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{%- if loop.last -%}{%- set content = '<think>\\n' + thought + '\\n</think>\\n\\n' + content -%}{%- endif -%}
{%- endif -%}
{{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}
{%- endif -%}
"""
# Opens the block itself unless told not to.
QWEN35 = QWEN3.replace(
    "{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}",
    "{{- '<think>\\n\\n</think>\\n\\n' -}}{%- else -%}{{- '<think>\\n' -}}{%- endif -%}",
)
# No switch; the prompt opens the block, past answers have lost it.
R1 = """\
{{- bos_token -}}
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{- m.content -}}
{%- elif m.role == 'user' -%}{{- '<|User|>' + m.content -}}
{%- else -%}{{- '<|Assistant|>' + m.content.split('</think>')[-1] + '<|end_of_sentence|>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|Assistant|><think>\\n' -}}{%- endif -%}
"""
R1_OLD = R1.replace("<|Assistant|><think>\\n", "<|Assistant|>")  # the model opens the block
# Off unless asked for, in the system prompt.
GRANITE = """\
{%- if messages[0].role != 'system' -%}
{{- '<|start_of_role|>system<|end_of_role|>You are Granite.' -}}
{%- if thinking -%}
{{- " Write your thoughts after 'Here is my thought process:' and your response after 'Here is my response:'." -}}
{%- endif -%}
{{- '<|end_of_text|>\\n' -}}
{%- endif -%}
{%- for m in messages -%}
{{- '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_of_role|>assistant<|end_of_role|>' -}}{%- endif -%}
"""
HARMONY = """\
{{- '<|start|>system<|message|>Reasoning: ' + (reasoning_effort or 'medium') + '. Channels: analysis, final.<|end|>' -}}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') -}}
{%- else -%}
{{- '<|start|>' + ('developer' if m.role == 'system' else m.role) + '<|message|>' + m.content + '<|end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start|>assistant' -}}{%- endif -%}
"""
MAGISTRAL = """\
{{- bos_token -}}
{%- if messages[0].role != 'system' -%}
{{- '[SYSTEM_PROMPT]First draft your thinking: [THINK]...[/THINK] Then answer.[/SYSTEM_PROMPT]' -}}
{%- endif -%}
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{- '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' -}}
{%- elif m.role == 'user' -%}{{- '[INST]' + m.content + '[/INST]' -}}
{%- else -%}{{- m.content + eos_token -}}{%- endif -%}
{%- endfor -%}
"""
PLAIN = """\
{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
CHATML = ("<|im_start|>", "<|im_end|>")
DEEPSEEK = ("<|begin|>", "<|User|>", "<|Assistant|>", "<|end_of_sentence|>")
TEMPLATES: dict[str, tuple[str, tuple[str, ...], str]] = {  # template, control tokens, end of turn
    "qwen3": (QWEN3, CHATML, "<|im_end|>"),
    "qwen3.5": (QWEN35, CHATML, "<|im_end|>"),
    "r1": (R1, DEEPSEEK, "<|end_of_sentence|>"),
    "r1-old": (R1_OLD, DEEPSEEK, "<|end_of_sentence|>"),
    "granite": (GRANITE, ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"), "<|end_of_text|>"),
    "gpt-oss": (HARMONY, ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"), "<|return|>"),
    "magistral": (
        MAGISTRAL,
        ("<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]"),
        "</s>",
    ),
    "plain": (PLAIN, CHATML, "<|im_end|>"),
}


class TemplateTokenizer:
    """Every control token is one id, and so is every other character."""

    added_tokens_decoder: ClassVar[dict] = {}
    name_or_path = "scripted"

    def __init__(self, template: str, special: tuple[str, ...], end: str):
        self.chat_template = template
        self.all_special_tokens = list(special)
        self.eos_token_id = special.index(end)
        self.variables: list[dict[str, Any]] = []  # of every rendering
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        self._template = environment.from_string(template)
        self._tokens = {"bos_token": special[0], "eos_token": end}
        self._cut = re.compile("|".join(re.escape(token) for token in special) + "|.", re.S)

    def convert_tokens_to_ids(self, tokens):
        return [self.all_special_tokens.index(token) for token in tokens]

    def encode(self, text, add_special_tokens=False):
        special = self.all_special_tokens
        return [special.index(t) if t in special else 1000 + ord(t) for t in self._cut.findall(text)]

    def decode(self, ids, skip_special_tokens=False):
        texts = [self.all_special_tokens[i] if i < 1000 else chr(i - 1000) for i in ids]
        return "".join(t for t, i in zip(texts, ids, strict=True) if i >= 1000 or not skip_special_tokens)

    def apply_chat_template(self, messages, tokenize=True, add_generation_prompt=False, return_dict=False, **variables):
        self.variables.append(variables)
        text = self._template.render(
            messages=messages, add_generation_prompt=add_generation_prompt, **self._tokens, **variables
        )
        return self.encode(text) if tokenize else text


def template_tokenizer(name: str) -> TemplateTokenizer:
    """The tokenizer of one of `TEMPLATES`."""
    return TemplateTokenizer(*TEMPLATES[name])
