"""Untrained models of three architectures and their tokenizers, in transformers' format.

Each gets its own byte-level BPE, trained on the world's texts, and a chat template of its family's shape. Called by
`teaching.py` in processes of their own; imports torch and transformers inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Architecture = Literal["llama", "qwen2", "gemma2"]
HEAD_SIZE = 32  # the least that vLLM's attention on a CPU takes
WINDOW = 512  # tokens
_LLAMA = """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n' + (message['content'] | trim) + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\\n' }}{%- endif -%}
"""
_CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
_GEMMA = """\
{{- bos_token -}}
{%- if messages[0]['role'] == 'system' -%}{{ raise_exception('System role not supported') }}{%- endif -%}
{%- for message in messages -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{ '<start_of_turn>' + role + '\\n' + (message['content'] | trim) + '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""


@dataclass(frozen=True)
class Family:
    """The properties of an architecture: transformers' configuration class, chat template, special tokens (padding
    first)."""

    config_class: str
    template: str
    bos: str | None
    eos: str
    special: tuple[str, ...]


FAMILIES: dict[Architecture, Family] = {
    "llama": Family(
        "LlamaConfig",
        _LLAMA,
        "<|begin_of_text|>",
        "<|eot_id|>",
        ("<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "qwen2": Family("Qwen2Config", _CHATML, None, "<|im_end|>", ("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
    "gemma2": Family(
        "Gemma2Config",
        _GEMMA,
        "<bos>",
        "<end_of_turn>",
        ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
    ),
}


@dataclass(frozen=True)
class ModelSpec:
    """One model: its name, architecture and size."""

    name: str
    architecture: Architecture
    num_tokens: int  # of its vocabulary
    hidden_size: int  # a multiple of HEAD_SIZE
    num_layers: int


def make_tokenizer(spec: ModelSpec, corpus: Sequence[str]) -> Any:
    """A fast tokenizer with `spec.num_tokens` tokens that can write any text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[spec.architecture]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.num_tokens,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in family.special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # The words of the chat templates too, so that a turn's frame costs few tokens.
    tokenizer.train_from_iterator([*corpus, *["user assistant model system\n"] * 100], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token=family.special[0],
        model_max_length=WINDOW,
    )
    fast.chat_template = family.template
    return fast


def make_network(spec: ModelSpec, tokenizer: Any) -> Any:
    """An untrained network in float32, drawn from torch's generator."""
    import torch
    import transformers

    heads = spec.hidden_size // HEAD_SIZE
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": spec.hidden_size,
        "intermediate_size": 3 * spec.hidden_size,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": HEAD_SIZE,
        "max_position_embeddings": WINDOW,
        "initializer_range": 0.05,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if spec.architecture == "gemma2":
        shape |= {"query_pre_attn_scalar": HEAD_SIZE, "sliding_window": WINDOW}
    config = getattr(transformers, FAMILIES[spec.architecture].config_class)(**shape)
    # Eager, for sdpa leaves out Gemma 2's caps on attention logits, which an engine applies.
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
