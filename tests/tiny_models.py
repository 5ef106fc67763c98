"""Tiny checkpoints of four families with random weights, built offline in a second or two each.

Each has its own byte-complete BPE tokenizer and a chat template of its family's shape: ChatML (Qwen2), Llama 3, Gemma
(no system role, no byte-level alphabet) and Mistral Small. Weights are drawn wide enough that another prompt or another
version gives clearly other log-probabilities.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CHATML = """\
{%- for message in messages -%}
{%- if loop.first and message['role'] != 'system' -%}
{{ '<|im_start|>system\\nYou are a tiny model.<|im_end|>\\n' }}
{%- endif -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
LLAMA3 = """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + (message['content'] | trim) + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}
"""
GEMMA = """\
{{- bos_token -}}
{%- if messages[0]['role'] == 'system' -%}{{ raise_exception('System role not supported') }}{%- endif -%}
{%- for message in messages -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{ '<start_of_turn>' + role + '\\n' + (message['content'] | trim) + '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""
MISTRAL = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}{{ '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}
{%- elif message['role'] == 'user' -%}{{ '[INST]' + message['content'] + '[/INST]' }}
{%- else -%}{{ message['content'] + eos_token }}{%- endif -%}
{%- endfor -%}
"""
# What the tokenizers are trained on; only has to hold common English.
CORPUS = [
    "A knowledge tree has a root, main domains, secondary domains and leaves. Which answer is the best one, and why?",
    "The quick brown fox jumps over the lazy dog while seven wizards quietly mix boxing potions for the queen.",
    "Explain step by step how light bends in water. First, consider its speed in each medium; then apply the law.",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))  # prints 5\n",
    "You are a helpful assistant. Reply with the label of the best answer: A, B, C or D. Compare them in a table.",
    "Science Physics Optics Mathematics Geometry History Medicine Cooking Music Law Economics Languages 0123456789",
]


@dataclass(frozen=True)
class Family:
    """What makes one family: its transformers configuration class, template and special tokens."""

    config_class: str
    template: str
    bos: str | None
    eos: str
    special: tuple[str, ...]
    byte_level: bool = True


FAMILIES = {
    "qwen2": Family("Qwen2Config", CHATML, None, "<|im_end|>", ("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
    "llama": Family(
        "LlamaConfig",
        LLAMA3,
        "<|begin_of_text|>",
        "<|eot_id|>",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "gemma2": Family(
        "Gemma2Config",
        GEMMA,
        "<bos>",
        "<end_of_turn>",
        ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        byte_level=False,
    ),
    "mistral": Family(
        "MistralConfig",
        MISTRAL,
        "<s>",
        "</s>",
        ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    ),
}


def build_tokenizer(family: Family):
    """A fast tokenizer of about 500 tokens that can write any text."""
    from transformers import PreTrainedTokenizerFast

    special = [AddedToken(token, special=True, normalized=False) for token in family.special]
    if family.byte_level:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet)
    else:
        # SentencePiece's way, as Gemma has it: spaces become a sign of their own, unknown characters become bytes.
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        in_bytes = [AddedToken(f"<0x{byte:02X}>", normalized=False) for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special + in_bytes)
    tokenizer.train_from_iterator(CORPUS, trainer)
    if not family.byte_level:
        # The trainer can only be given byte tokens as special ones; in the real ones they are ordinary.
        content = json.loads(tokenizer.to_str())
        content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in family.special]
        tokenizer = Tokenizer.from_str(json.dumps(content))
    if family.bos is not None:
        # As in the real ones: a plain encode adds the first token, which the template already wrote.
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A",
            special_tokens=[(family.bos, tokenizer.token_to_id(family.bos))],
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token=family.special[0],
        additional_special_tokens=[t for t in family.special if t not in (family.bos, family.eos)],
        model_max_length=512,
    )
    fast.chat_template = family.template
    return fast


def build_tiny_model(arch: str, folder: Path, *, tie_word_embeddings: bool, seed: int = 0) -> Path:
    """Write one checkpoint in bfloat16: 2 layers, width 128, 4 heads of 32, about half a million parameters."""
    import torch
    import transformers

    family = FAMILIES[arch]
    tokenizer = build_tokenizer(family)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 512,
        "initializer_range": 0.12,
        "tie_word_embeddings": tie_word_embeddings,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if arch == "gemma2":
        shape |= {"query_pre_attn_scalar": 32, "sliding_window": 512}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = getattr(transformers, family.config_class)(**shape)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
