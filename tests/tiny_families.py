"""Tiny checkpoints of every model family, laid out as their publishers lay them out, with random weights.

`build_family(name, folder, seed=0)` writes one: the family's own configuration class in the spelling of the published
config.json (rope_theta, torch_dtype), its tokenizer's shape and special tokens, a template of its shape in the file the
publisher keeps it in, shards and index or one file, and whatever is beside them (consolidated weights, params.json,
tekken.json, processors). About half a million parameters, offline, a second or two each.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import family_templates as templates
from tiny_models import CORPUS
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HEADS, KV_HEADS, HEAD_DIM, HIDDEN, WIDE, LAYERS, WINDOW = 4, 2, 32, 128, 256, 2, 512
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


@dataclass(frozen=True)
class Words:
    """A tokenizer: its kind, its control tokens and other added ones, and the class its publisher names."""

    special: tuple[str, ...]
    eos: str
    bos: str | None = None
    pad: str | None = None
    unk: str | None = None
    added: tuple[str, ...] = ()  # whole tokens that are not control tokens (<think>)
    byte_level: bool = True  # else SentencePiece's way
    splits: str = ""  # how text is cut before bytes are taken: "qwen" or "digits"; "" is GPT-2's way
    adds_bos: bool = False  # a plain encode begins with bos
    tokenizer_class: str = "PreTrainedTokenizerFast"
    named: Mapping[str, str] = field(default_factory=dict)  # further special tokens by name, as processors have them
    behind: tuple[str, ...] = ()  # control tokens for which the embedding has no row


@dataclass(frozen=True)
class TinyFamily:
    """One family: configuration class and shape, tokenizer, template and where it is kept, files beside."""

    config_class: str
    words: Words
    template: str
    shape: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None  # configuration class of a wrapper's language model
    text_shape: Mapping[str, Any] = field(default_factory=dict)
    model_class: str = "AutoModelForCausalLM"
    renames: tuple[tuple[str, str], ...] = ()  # of tensors, from transformers' names to the publisher's
    template_in: str = "tokenizer_config.json"  # or chat_template.jinja, chat_template.json
    shards: int = 2
    more_eos: tuple[str, ...] = ()  # further ends of turn that generation_config.json names
    sampling: Mapping[str, Any] = field(default_factory=dict)  # generation_config.json's
    beside: Callable[[Path, dict[str, Any]], None] | None = None  # writes what else a publisher puts there
    new_spelling: bool = False  # published with transformers 5: rope_parameters, dtype
    quantization: Mapping[str, Any] | None = None  # config.json's; only MXFP4 of experts


def build_family(name: str, folder: Path, seed: int = 0) -> Path:
    """One checkpoint of `FAMILIES[name]` in `folder`, in bfloat16. The same seed gives the same weights."""
    import torch
    import transformers

    family = FAMILIES[name]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(family.words)
    write_tokenizer(family, tokenizer, folder)
    config = make_config(family, tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, family.model_class).from_config(config, dtype=torch.bfloat16)
    config = model.config
    state = {rename(key, family.renames): tensor.clone() for key, tensor in published_state(model).items()}
    if family.quantization is not None:
        state = with_packed_experts(state)
    write_shards(state, folder, family.shards)
    write_config(family, config, type(model).__name__, folder)
    write_generation_config(family, config, tokenizer, folder)
    if family.beside is not None:
        family.beside(folder, state)
    return folder


def published_state(model: Any) -> dict[str, Any]:
    """All tensors once, under the names that save_pretrained writes."""
    from transformers.core_model_loading import revert_weight_conversion

    tied = dict(model.all_tied_weights_keys)
    state = {key: tensor for key, tensor in model.state_dict().items() if key not in tied}
    return revert_weight_conversion(model, state)


def rename(key: str, renames: tuple[tuple[str, str], ...]) -> str:
    for old, new in renames:
        if key.startswith(old):
            return new + key[len(old) :]
    return key


def make_config(family: TinyFamily, tokenizer: Tokenizer) -> Any:
    import transformers

    words = family.words
    ids = {
        # Rounded up, as in the real ones, unless the embedding ends before the tokenizer does.
        "vocab_size": tokenizer.get_vocab_size() - len(words.behind)
        if words.behind
        else -(-tokenizer.get_vocab_size() // 64) * 64,
        "bos_token_id": tokenizer.token_to_id(words.bos) if words.bos else None,
        "eos_token_id": tokenizer.token_to_id(words.eos),
        "pad_token_id": tokenizer.token_to_id(words.pad) if words.pad else None,
    }
    text_shape = {
        "hidden_size": HIDDEN,
        "intermediate_size": WIDE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": WINDOW,
        "initializer_range": 0.12,
        **ids,
    }
    if family.text is None:
        return getattr(transformers, family.config_class)(**{**text_shape, **family.shape})
    text = getattr(transformers, family.text)(**{**text_shape, **family.text_shape})
    return getattr(transformers, family.config_class)(**{"text_config": text.to_dict(), **family.shape})


# Tokenizers.


def train_tokenizer(words: Words) -> Tokenizer:
    """About 600 tokens, byte-complete: byte level, or SentencePiece's way with bytes as tokens of their own."""
    special = [AddedToken(token, special=True, normalized=False) for token in words.special]
    if words.byte_level:
        tokenizer = Tokenizer(models.BPE())
        if words.splits in ("qwen", "digits"):
            tokenizer.normalizer = normalizers.NFC() if words.splits == "qwen" else None
            first = pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated")
            first = first if words.splits == "qwen" else pre_tokenizers.Digits(individual_digits=True)
            then = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words.splits == "digits")
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, then])
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=words.unk, fuse_unk=True))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        in_bytes = [AddedToken(f"<0x{byte:02X}>", normalized=False) for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special + in_bytes, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    content = json.loads(tokenizer.to_str())
    # The trainer can only be given byte tokens as special ones; in the real ones they are ordinary.
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in words.special]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in words.added])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in words.behind])
    if words.adds_bos and words.bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{words.bos} $A", special_tokens=[(words.bos, tokenizer.token_to_id(words.bos))]
        )
    return tokenizer


def write_tokenizer(family: TinyFamily, tokenizer: Tokenizer, folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json and special_tokens_map.json, and the template where it is kept."""
    words = family.words
    tokenizer.save(str(folder / "tokenizer.json"))
    content = json.loads(tokenizer.to_str())
    named = {"bos_token": words.bos, "eos_token": words.eos, "pad_token": words.pad, "unk_token": words.unk}
    named = {key: token for key, token in named.items() if token is not None}
    config: dict[str, Any] = {
        "added_tokens_decoder": {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"}
            for token in content["added_tokens"]
        },
        "clean_up_tokenization_spaces": False,
        "model_max_length": WINDOW,
        "tokenizer_class": words.tokenizer_class,
        **named,
        **words.named,
    }
    if words.named:
        config["extra_special_tokens"] = dict(words.named)
    if words.tokenizer_class in ("Qwen2Tokenizer", "GPT2Tokenizer"):
        write_json(folder / "vocab.json", content["model"]["vocab"])
        merges = [" ".join(pair) for pair in content["model"]["merges"]]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", "utf-8")
    if family.template_in == "tokenizer_config.json":
        config["chat_template"] = family.template
    elif family.template_in == "chat_template.json":
        write_json(folder / "chat_template.json", {"chat_template": family.template})
    else:
        (folder / family.template_in).write_text(family.template, "utf-8")
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", named)


# Files.


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def write_shards(state: Mapping[str, Any], folder: Path, num_shards: int) -> None:
    from safetensors.torch import save_file

    if num_shards == 1:
        save_file(dict(state), folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(state)
    weight_map = {}
    for shard in range(num_shards):
        file = f"model-{shard + 1:05d}-of-{num_shards:05d}.safetensors"
        held = {name: state[name] for name in names[shard::num_shards]}
        save_file(held, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(held, file)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / "model.safetensors.index.json", index)


def write_config(family: TinyFamily, config: Any, architecture: str, folder: Path) -> None:
    content = config.to_dict() | {"architectures": [architecture]}
    content.pop("_name_or_path", None)
    if family.quantization is not None:
        content["quantization_config"] = dict(family.quantization)
    if not family.new_spelling:
        content = old_spelling(content) | {"transformers_version": "4.51.0"}
    write_json(folder / "config.json", content)


def old_spelling(content: Any) -> Any:
    """A configuration as transformers 4 wrote it: rope_theta and rope_scaling, torch_dtype."""
    if not isinstance(content, dict):
        return content
    content = {key: old_spelling(value) for key, value in content.items()}
    if "dtype" in content:
        content["torch_dtype"] = content.pop("dtype")
    rope = content.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        del content["rope_parameters"]
        content["rope_theta"] = rope["rope_theta"]
        scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
        if scaling.get("rope_type", "default") != "default" or "mrope_section" in scaling:
            content["rope_scaling"] = scaling
    return content


def write_generation_config(family: TinyFamily, config: Any, tokenizer: Tokenizer, folder: Path) -> None:
    ends = [tokenizer.token_to_id(token) for token in (family.words.eos, *family.more_eos)]
    content = {
        "bos_token_id": tokenizer.token_to_id(family.words.bos) if family.words.bos else None,
        "eos_token_id": ends if len(ends) > 1 else ends[0],
        "pad_token_id": tokenizer.token_to_id(family.words.pad) if family.words.pad else None,
        "transformers_version": "4.51.0",
        **family.sampling,
    }
    content = {key: value for key, value in content.items() if value is not None}
    write_json(folder / "generation_config.json", content)


def with_packed_experts(state: Mapping[str, Any]) -> dict[str, Any]:
    """The experts' matrices in MXFP4, as gpt-oss has them: two numbers a byte, one exponent for 32 of them."""
    packed = {}
    for name, tensor in state.items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            packed[f"{name}_blocks"], packed[f"{name}_scales"] = mxfp4(tensor.float().transpose(1, 2))
        else:
            packed[name] = tensor
    return packed


def mxfp4(rows: Any) -> tuple[Any, Any]:
    """[..., n] as blocks [..., n / 32, 16] and scales [..., n / 32], both uint8."""
    import torch

    groups = rows.reshape(*rows.shape[:-1], -1, 32)
    exponents = torch.floor(torch.log2(groups.abs().amax(-1).clamp_min(2.0**-100))) - 2  # the largest number is 6
    levels = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    scaled = groups / 2.0 ** exponents[..., None]
    codes = (scaled.abs()[..., None] - levels).abs().argmin(-1) + 8 * (scaled < 0)
    blocks = codes[..., 0::2] + 16 * codes[..., 1::2]
    return blocks.to(torch.uint8), (exponents + 127).to(torch.uint8)


# What publishers put beside the Hugging Face files.


def meta_original(folder: Path, state: dict[str, Any]) -> None:
    """Meta's own format, in a folder of its own."""
    (folder / "original").mkdir(exist_ok=True)
    (folder / "original" / "consolidated.00.pth").write_bytes(b"not read")
    (folder / "original" / "tokenizer.model").write_bytes(b"not read")
    write_json(folder / "original" / "params.json", {"dim": HIDDEN, "n_layers": LAYERS})


def mistral_original(tokenizer_file: str) -> Callable[[Path, dict[str, Any]], None]:
    """Mistral's own format beside the Hugging Face files: weights under its names, params.json, its tokenizer."""

    def write(folder: Path, state: dict[str, Any]) -> None:
        from safetensors.torch import save_file

        own = {mistral_name(key): mistral_tensor(key, tensor) for key, tensor in state.items() if is_text(key)}
        save_file(own, folder / "consolidated.safetensors")
        vocab_size = next(t.shape[0] for key, t in own.items() if key.startswith("tok_embeddings"))
        write_json(
            folder / "params.json",
            {
                "dim": HIDDEN,
                "n_layers": LAYERS,
                "head_dim": HEAD_DIM,
                "hidden_dim": WIDE,
                "n_heads": HEADS,
                "n_kv_heads": KV_HEADS,
                "norm_eps": 1e-5,
                "vocab_size": vocab_size,
                "rope_theta": 1000000.0,
                "max_seq_len": WINDOW,
            },
        )
        write_mistral_tokenizer(folder, tokenizer_file)

    return write


def is_text(key: str) -> bool:
    return not key.startswith(("vision_tower", "multi_modal_projector"))


def mistral_name(key: str) -> str:
    parts = {"self_attn": "attention", "mlp": "feed_forward", "embed_tokens": "tok_embeddings", "lm_head": "output"}
    parts |= {"q_proj": "wq", "k_proj": "wk", "v_proj": "wv", "o_proj": "wo", "gate_proj": "w1", "down_proj": "w2"}
    parts |= {"up_proj": "w3", "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm"}
    return ".".join(parts.get(part, part) for part in key.split(".") if part not in ("model", "language_model"))


def mistral_tensor(key: str, tensor: Any) -> Any:
    """Query and key with the halves of each head interleaved, as Mistral's rotary embedding wants them."""
    heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(key.split(".")[-2])
    if heads is None:
        return tensor.clone()
    return tensor.view(heads, 2, HEAD_DIM // 2, HIDDEN).transpose(1, 2).reshape(heads * HEAD_DIM, HIDDEN).contiguous()


def write_mistral_tokenizer(folder: Path, tokenizer_file: str) -> None:
    """Mistral's real files: SentencePiece models whole, a tekken.json with its first thousand tokens."""
    import mistral_common

    data = Path(mistral_common.__file__).parent / "data"
    if tokenizer_file.startswith("tekken"):
        write_json(folder / "tekken.json", small_tekken(data / tokenizer_file))
    else:
        shutil.copy(data / tokenizer_file, folder / "tokenizer.model")
        shutil.copy(data / tokenizer_file, folder / "tokenizer.model.v3")


def small_tekken(path: Path, num_tokens: int = 1000) -> dict[str, Any]:
    """A real tekken.json cut to its control tokens and first ranks, which hold every byte."""
    content = json.loads(path.read_text("utf-8"))
    num_special = content["config"]["default_num_special_tokens"]
    content["vocab"] = content["vocab"][:num_tokens]
    assert {bytes([b]) for b in range(256)} <= {base64.b64decode(entry["token_bytes"]) for entry in content["vocab"]}
    content["config"]["default_vocab_size"] = num_special + num_tokens
    return content


def processor_files(**preprocessor: Any) -> Callable[[Path, dict[str, Any]], None]:
    """The configuration of a wrapper's processor, which a text-only use never reads the images of."""

    def write(folder: Path, state: dict[str, Any]) -> None:
        kind = preprocessor["processor_class"]
        write_json(folder / "preprocessor_config.json", preprocessor)
        write_json(folder / "processor_config.json", {"processor_class": kind})

    return write


def several(*writers: Callable[[Path, dict[str, Any]], None]) -> Callable[[Path, dict[str, Any]], None]:
    def write(folder: Path, state: dict[str, Any]) -> None:
        for writer in writers:
            writer(folder, state)

    return write


# The families.

LLAMA3_WORDS = Words(
    ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"),
    eos="<|eot_id|>",
    bos="<|begin_of_text|>",
    adds_bos=True,
)
MISTRAL_SPECIAL = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]")
MISTRAL_V3_WORDS = Words(
    MISTRAL_SPECIAL, "</s>", "<s>", unk="<unk>", byte_level=False, adds_bos=True, tokenizer_class="LlamaTokenizer"
)
NEMO_WORDS = Words((*MISTRAL_SPECIAL, "<pad>"), "</s>", "<s>", unk="<unk>", adds_bos=True)
SMALL_WORDS = Words(
    (*MISTRAL_SPECIAL, "<pad>", "[IMG]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    "</s>",
    "<s>",
    pad="<pad>",
    unk="<unk>",
    adds_bos=True,
)
QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_WORDS = Words(QWEN_SPECIAL, "<|im_end|>", pad="<|endoftext|>", splits="qwen", tokenizer_class="Qwen2Tokenizer")
QWEN3_WORDS = Words(
    QWEN_SPECIAL,
    "<|im_end|>",
    pad="<|endoftext|>",
    added=("<think>", "</think>"),
    splits="qwen",
    tokenizer_class="Qwen2Tokenizer",
)
QWEN_VL_WORDS = Words(
    (*QWEN_SPECIAL, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    "<|im_end|>",
    pad="<|endoftext|>",
    splits="qwen",
    tokenizer_class="Qwen2Tokenizer",
)
QWEN35_WORDS = Words(
    (*QWEN_SPECIAL, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    "<|im_end|>",
    pad="<|endoftext|>",
    added=("<think>", "</think>"),
    splits="qwen",
    tokenizer_class="Qwen2Tokenizer",
)
GEMMA_WORDS = Words(
    ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
    eos="<eos>",
    bos="<bos>",
    pad="<pad>",
    unk="<unk>",
    byte_level=False,
    adds_bos=True,
    tokenizer_class="GemmaTokenizer",
)
GEMMA3_WORDS = Words(
    ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<image_soft_token>"),
    eos="<eos>",
    bos="<bos>",
    pad="<pad>",
    unk="<unk>",
    byte_level=False,
    adds_bos=True,
    tokenizer_class="GemmaTokenizer",
)
GEMMA3_TEXT_WORDS = replace(
    GEMMA3_WORDS,
    special=tuple(token for token in GEMMA3_WORDS.special if token != "<image_soft_token>"),
    named={"boi_token": "<start_of_image>", "image_token": "<image_soft_token>"},
    behind=("<image_soft_token>",),
)
GEMMA4_WORDS = Words(
    ("<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>", "<|image|>"),
    eos="<turn|>",
    bos="<bos>",
    pad="<pad>",
    unk="<unk>",
    byte_level=False,
    adds_bos=True,
    tokenizer_class="GemmaTokenizer",
)
PHI3_WORDS = Words(
    ("<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"),
    eos="<|endoftext|>",
    bos="<s>",
    pad="<|endoftext|>",
    unk="<unk>",
    byte_level=False,
    tokenizer_class="LlamaTokenizer",
)
PHI4_WORDS = Words(
    ("<|endoftext|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>"),
    eos="<|im_end|>",
    bos="<|endoftext|>",
    pad="<|endoftext|>",
    tokenizer_class="GPT2Tokenizer",
)
GPT_OSS_WORDS = Words(
    (
        *("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>"),
        *("<|message|>", "<|call|>"),
    ),
    eos="<|return|>",
    bos="<|startoftext|>",
    pad="<|endoftext|>",
)
R1_WORDS = Words(
    ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
    eos="<｜end▁of▁sentence｜>",
    bos="<｜begin▁of▁sentence｜>",
    pad="<｜end▁of▁sentence｜>",
    added=("<think>", "</think>"),
    adds_bos=True,
    tokenizer_class="LlamaTokenizerFast",
)
GRANITE_WORDS = Words(
    ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|pad|>"),
    eos="<|end_of_text|>",
    bos="<|end_of_text|>",
    pad="<|pad|>",
    tokenizer_class="GPT2Tokenizer",
)
OLMO2_WORDS = Words(
    ("<|endoftext|>", "<|pad|>"),
    eos="<|endoftext|>",
    bos="<|endoftext|>",
    pad="<|pad|>",
    tokenizer_class="GPT2Tokenizer",
)
OLMO3_WORDS = Words(
    ("<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"),
    eos="<|endoftext|>",
    bos="<|endoftext|>",
    pad="<|pad|>",
    added=("<think>", "</think>"),
    tokenizer_class="GPT2Tokenizer",
)
SMOLLM2_WORDS = Words(
    QWEN_SPECIAL,
    "<|im_end|>",
    bos="<|im_start|>",
    pad="<|im_end|>",
    splits="digits",
    tokenizer_class="GPT2Tokenizer",
)
SMOLLM3_WORDS = Words(
    ("<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"),
    eos="<|im_end|>",
    pad="<|im_end|>",
    added=("<think>", "</think>"),
)
COHERE_SPECIAL = ("<PAD>", "<UNK>", "<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>")
COHERE_WORDS = Words(
    (*COHERE_SPECIAL, "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"),
    eos="<|END_OF_TURN_TOKEN|>",
    bos="<BOS_TOKEN>",
    pad="<PAD>",
    unk="<UNK>",
    adds_bos=True,
    tokenizer_class="CohereTokenizerFast",
)
IDEFICS_WORDS = Words(
    (*QWEN_SPECIAL, "<end_of_utterance>", "<image>"),
    eos="<end_of_utterance>",
    bos="<|im_start|>",
    pad="<|endoftext|>",
    tokenizer_class="GPT2Tokenizer",
)

# Publishers wrote these wrappers before transformers 5 gave their language models new names.
OLD_WRAPPER = (
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
)
WRAPPED = "AutoModelForImageTextToText"
LLAMA31_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
THETA_1M = {"rope_type": "default", "rope_theta": 1000000.0}
SIGLIP = {"model_type": "siglip_vision_model", **TOWER, "image_size": 28, "patch_size": 14}
PIXTRAL = {"model_type": "pixtral", **TOWER, "image_size": 28, "patch_size": 14, "head_dim": 16}
QWEN_VL_TOWER = {
    **{"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 14},
    **{"out_hidden_size": HIDDEN, "fullatt_block_indexes": [0], "window_size": 56},
}
QWEN35_TOWER = {
    **{"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 14},
    **{"out_hidden_size": HIDDEN, "num_position_embeddings": 16, "deepstack_visual_indexes": []},
}
GRANITE_SHAPE = {
    **{"embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22},
    **{"attention_multiplier": 0.03125, "tie_word_embeddings": True},
}
YARN = {
    **{"rope_type": "yarn", "rope_theta": 150000.0, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0},
    **{"truncate": False, "original_max_position_embeddings": 128},
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_chunk_size": 64}

FAMILIES: dict[str, TinyFamily] = {
    "llama-3.1": TinyFamily(
        "LlamaConfig",
        LLAMA3_WORDS,
        templates.LLAMA3,
        {"rope_parameters": LLAMA31_ROPE, "tie_word_embeddings": False},
        more_eos=("<|end_of_text|>", "<|eom_id|>"),
        sampling={"do_sample": True, "temperature": 0.6, "top_p": 0.9},
        beside=meta_original,
    ),
    "llama-3.2": TinyFamily(
        "LlamaConfig",
        LLAMA3_WORDS,
        templates.LLAMA3,
        {"rope_parameters": LLAMA31_ROPE, "tie_word_embeddings": True},
        more_eos=("<|end_of_text|>", "<|eom_id|>"),
        sampling={"do_sample": True, "temperature": 0.6, "top_p": 0.9},
        beside=meta_original,
        shards=1,
    ),
    "mistral-7b-v0.3": TinyFamily(
        "MistralConfig",
        MISTRAL_V3_WORDS,
        templates.MISTRAL_V3,
        {"rope_parameters": THETA_1M, "sliding_window": None},
        shards=3,
        beside=mistral_original("mistral_instruct_tokenizer_240323.model.v3"),
    ),
    "mistral-nemo": TinyFamily(
        "MistralConfig",
        NEMO_WORDS,
        templates.MISTRAL_NEMO,
        {"rope_parameters": THETA_1M, "sliding_window": None},
        beside=mistral_original("tekken_240718.json"),
    ),
    "mistral-small-2501": TinyFamily(
        "MistralConfig",
        SMALL_WORDS,
        templates.MISTRAL_SMALL,
        {"rope_parameters": THETA_1M, "sliding_window": None},
        beside=mistral_original("tekken_240911.json"),
    ),
    "mistral-small-3.1": TinyFamily(
        "Mistral3Config",
        SMALL_WORDS,
        templates.MISTRAL_SMALL_31,
        {"vision_config": PIXTRAL, "image_token_index": 7, "spatial_merge_size": 2, "tie_word_embeddings": False},
        text="MistralConfig",
        text_shape={"rope_parameters": THETA_1M, "sliding_window": None, "model_type": "mistral"},
        model_class=WRAPPED,
        renames=OLD_WRAPPER,
        template_in="chat_template.json",
        beside=several(
            mistral_original("tekken_240911.json"),
            processor_files(
                processor_class="PixtralProcessor", image_processor_type="PixtralImageProcessor", patch_size=14
            ),
        ),
    ),
    "qwen2.5": TinyFamily(
        "Qwen2Config",
        QWEN_WORDS,
        templates.chatml("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
        {"rope_parameters": THETA_1M, "use_sliding_window": False, "tie_word_embeddings": False},
        more_eos=("<|endoftext|>",),
        sampling={"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.7, "top_p": 0.8, "top_k": 20},
    ),
    "qwen3": TinyFamily(
        "Qwen3Config",
        QWEN3_WORDS,
        templates.QWEN3,
        {"rope_parameters": THETA_1M, "use_sliding_window": False, "tie_word_embeddings": True},
        more_eos=("<|endoftext|>",),
        sampling={"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20},
        shards=1,
    ),
    "qwen3.5": TinyFamily(
        "Qwen3_5Config",
        QWEN35_WORDS,
        templates.QWEN35,
        {"vision_config": QWEN35_TOWER, "tie_word_embeddings": True},
        text="Qwen3_5TextConfig",
        text_shape={
            **{"layer_types": ["linear_attention", "full_attention"], "tie_word_embeddings": True},
            **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 32},
            "linear_value_head_dim": 32,
            "rope_parameters": {
                **{"rope_type": "default", "rope_theta": 10000000.0, "partial_rotary_factor": 0.25},
                **{"mrope_section": [2, 1, 1], "mrope_interleaved": True},
            },
        },
        model_class=WRAPPED,
        template_in="chat_template.jinja",
        beside=processor_files(
            processor_class="Qwen3VLProcessor", image_processor_type="Qwen2VLImageProcessorFast", patch_size=14
        ),
        new_spelling=True,
    ),
    "qwen2.5-vl": TinyFamily(
        "Qwen2_5_VLConfig",
        QWEN_VL_WORDS,
        templates.QWEN25_VL,
        {"vision_config": QWEN_VL_TOWER, "tie_word_embeddings": False},
        text="Qwen2_5_VLTextConfig",
        text_shape={
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [4, 6, 6]},
        },
        model_class=WRAPPED,
        renames=(("model.language_model.", "model."), ("model.visual.", "visual.")),
        template_in="chat_template.json",
        beside=processor_files(
            processor_class="Qwen2_5_VLProcessor", image_processor_type="Qwen2VLImageProcessor", patch_size=14
        ),
    ),
    "gemma-2": TinyFamily(
        "Gemma2Config",
        GEMMA_WORDS,
        templates.GEMMA2,
        {"query_pre_attn_scalar": 32, "sliding_window": 64, "attn_logit_softcapping": 2.0, "tie_word_embeddings": True},
        more_eos=("<end_of_turn>",),
    ),
    "gemma-3-text": TinyFamily(
        "Gemma3TextConfig",
        GEMMA3_TEXT_WORDS,
        templates.GEMMA3,
        {"query_pre_attn_scalar": 32, "sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]},
        more_eos=("<end_of_turn>",),
        sampling={"do_sample": True, "top_k": 64, "top_p": 0.95},
        template_in="chat_template.jinja",
        shards=1,
    ),
    "gemma-3": TinyFamily(
        "Gemma3Config",
        GEMMA3_WORDS,
        templates.GEMMA3,
        {"vision_config": SIGLIP, "mm_tokens_per_image": 4, "image_token_index": 7, "boi_token_index": 6},
        text="Gemma3TextConfig",
        text_shape={
            **{"query_pre_attn_scalar": 32, "sliding_window": 64},
            "layer_types": ["sliding_attention", "full_attention"],
        },
        model_class=WRAPPED,
        renames=OLD_WRAPPER,
        more_eos=("<end_of_turn>",),
        sampling={"do_sample": True, "top_k": 64, "top_p": 0.95},
        template_in="chat_template.json",
        beside=processor_files(
            processor_class="Gemma3Processor", image_processor_type="Gemma3ImageProcessor", image_seq_length=4
        ),
    ),
    "gemma-4": TinyFamily(
        "Gemma4Config",
        GEMMA4_WORDS,
        templates.GEMMA4,
        {"vision_config": None, "audio_config": None, "image_token_id": 9, "tie_word_embeddings": True},
        text="Gemma4TextConfig",
        text_shape={
            **{"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"], "global_head_dim": 64},
            **{"hidden_size_per_layer_input": 0, "final_logit_softcapping": 30.0},
        },
        model_class=WRAPPED,
        template_in="chat_template.jinja",
        sampling={"do_sample": True, "top_k": 64, "top_p": 0.95},
        new_spelling=True,
        shards=1,
    ),
    "phi-3": TinyFamily(
        "Phi3Config",
        PHI3_WORDS,
        templates.PHI3,
        {"tie_word_embeddings": False, "sliding_window": 256, "original_max_position_embeddings": WINDOW},
        more_eos=("<|end|>", "<|assistant|>"),
    ),
    "phi-4": TinyFamily(
        "Phi3Config",
        PHI4_WORDS,
        templates.PHI4,
        {"tie_word_embeddings": False, "original_max_position_embeddings": WINDOW},
        more_eos=("<|endoftext|>",),
    ),
    "gpt-oss": TinyFamily(
        "GptOssConfig",
        GPT_OSS_WORDS,
        templates.GPT_OSS,
        {
            **{"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64, "rope_parameters": YARN},
            **{"layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": False},
        },
        more_eos=("<|endoftext|>", "<|call|>"),
        sampling={"do_sample": True},
        template_in="chat_template.jinja",
        shards=3,
    ),
    "gpt-oss-mxfp4": TinyFamily(
        "GptOssConfig",
        GPT_OSS_WORDS,
        templates.GPT_OSS,
        {
            **{"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64, "rope_parameters": YARN},
            **{"layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": False},
        },
        more_eos=("<|endoftext|>", "<|call|>"),
        sampling={"do_sample": True},
        template_in="chat_template.jinja",
        shards=3,
        quantization={
            "quant_method": "mxfp4",
            "modules_to_not_convert": [
                "model.layers.*.self_attn",
                "model.layers.*.mlp.router",
                "model.embed_tokens",
                "lm_head",
            ],
        },
    ),
    "r1-distill-llama": TinyFamily(
        "LlamaConfig",
        R1_WORDS,
        templates.R1_DISTILL,
        {"rope_parameters": LLAMA31_ROPE, "tie_word_embeddings": False},
        sampling={"do_sample": True, "temperature": 0.6, "top_p": 0.95},
    ),
    "r1-distill-qwen": TinyFamily(
        "Qwen2Config",
        R1_WORDS,
        templates.R1_DISTILL,
        {"rope_parameters": THETA_1M, "use_sliding_window": False, "tie_word_embeddings": False},
        sampling={"do_sample": True, "temperature": 0.6, "top_p": 0.95},
        shards=1,
    ),
    "granite-3": TinyFamily("GraniteConfig", GRANITE_WORDS, templates.GRANITE, GRANITE_SHAPE),
    "granite-4-dense": TinyFamily(
        "GraniteMoeHybridConfig",
        GRANITE_WORDS,
        templates.GRANITE,
        {
            **GRANITE_SHAPE,
            **{"layer_types": ["attention", "attention"], "num_local_experts": 0, "num_experts_per_tok": 0},
            **{"shared_intermediate_size": WIDE, "position_embedding_type": "rope", **MAMBA},
        },
        template_in="chat_template.jinja",
        shards=1,
    ),
    "granite-4-hybrid": TinyFamily(
        "GraniteMoeHybridConfig",
        GRANITE_WORDS,
        templates.GRANITE,
        {
            **GRANITE_SHAPE,
            **{"layer_types": ["mamba", "attention"], "num_local_experts": 4, "num_experts_per_tok": 2},
            **{"shared_intermediate_size": WIDE, "position_embedding_type": "nope", **MAMBA},
        },
        template_in="chat_template.jinja",
        shards=1,
    ),
    "olmo-2": TinyFamily(
        "Olmo2Config", OLMO2_WORDS, templates.OLMO2, {"rope_parameters": THETA_1M, "tie_word_embeddings": False}
    ),
    "olmo-3": TinyFamily(
        "Olmo3Config",
        OLMO3_WORDS,
        templates.OLMO3,
        {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": False},
        more_eos=("<|im_end|>",),
        template_in="chat_template.jinja",
    ),
    "olmo-3-think": TinyFamily(
        "Olmo3Config",
        OLMO3_WORDS,
        templates.OLMO3_THINK,
        {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": False},
        more_eos=("<|im_end|>",),
        template_in="chat_template.jinja",
    ),
    "smollm2": TinyFamily(
        "LlamaConfig",
        SMOLLM2_WORDS,
        templates.chatml("You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
        {"tie_word_embeddings": True},
        shards=1,
    ),
    "smollm3": TinyFamily(
        "SmolLM3Config",
        SMOLLM3_WORDS,
        templates.SMOLLM3,
        {"no_rope_layers": [1, 0], "tie_word_embeddings": True},
        sampling={"do_sample": True, "temperature": 0.6, "top_p": 0.95},
        template_in="chat_template.jinja",
    ),
    "command-r7b": TinyFamily(
        "Cohere2Config",
        COHERE_WORDS,
        templates.COHERE,
        {
            **{"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"], "logit_scale": 0.25},
            "tie_word_embeddings": True,
        },
    ),
    "smolvlm": TinyFamily(
        "Idefics3Config",
        IDEFICS_WORDS,
        templates.IDEFICS3,
        {
            "vision_config": {**TOWER, "image_size": 28, "patch_size": 14},
            **{"image_token_id": 4, "scale_factor": 1, "tie_word_embeddings": False},
        },
        text="LlamaConfig",
        text_shape={"tie_word_embeddings": False, "model_type": "llama"},
        model_class=WRAPPED,
        template_in="chat_template.json",
        beside=processor_files(processor_class="Idefics3Processor", image_processor_type="Idefics3ImageProcessor"),
        shards=1,
    ),
}
