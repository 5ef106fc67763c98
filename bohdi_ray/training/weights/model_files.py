"""Files of a model other than its weights: configuration, tokenizer, template, processor, licence.

Called by versions.py. They are the user's own files, copied unchanged except where another reader would not understand
them: transformers 5 uses new names for rotary positions, number format and tokenizer class, and transformers 4, with
the serving stacks built on it, silently falls back to a default. So both spellings are written. Pure over bytes and
plain data.
"""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

log = logging.getLogger(__name__)
CONFIG, GENERATION_CONFIG, TOKENIZER_CONFIG = "config.json", "generation_config.json", "tokenizer_config.json"
MORE_TEMPLATES = "additional_chat_templates"
# What a tokenizer is loaded from.
TOKENIZER_FILES = frozenset(
    (
        *("tokenizer.json", "tokenizer.model", TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json"),
        *("vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model"),
        *("chat_template.jinja", "chat_template.json"),
    )
)
WEIGHTS = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".npz", ".tflite"),
    ".index.json",
)
# Of other layouts of the same weights (Mistral's own), which are not written: they would be the weights of before.
OTHER_LAYOUTS = ("consolidated", "params.json")
NOT_DOWNLOADED = ["consolidated*", "original/*", "params.json"]
LARGEST = 256 << 20  # bytes of a file that is no weights
# Tokenizer classes that only transformers 5 has end in this; the other, which reads tokenizer.json, 4 and 5 both know.
NEW_CLASSES, COMMON_CLASS = "Backend", "PreTrainedTokenizerFast"
ROPE_OF_ITS_OWN = ("rope_theta", "partial_rotary_factor")  # beside the scaling in the older spelling


def small_files(folder: str) -> dict[str, bytes]:
    """Every file of a model's folder but its weights, by its name in the folder."""
    found: dict[str, bytes] = {}
    names = sorted(os.listdir(folder))
    if os.path.isdir(os.path.join(folder, MORE_TEMPLATES)):
        names += [f"{MORE_TEMPLATES}/{name}" for name in sorted(os.listdir(os.path.join(folder, MORE_TEMPLATES)))]
    for name in names:
        path = os.path.join(folder, name)
        other = name.lower().endswith(WEIGHTS) or name.startswith((".", *OTHER_LAYOUTS))
        if other or not os.path.isfile(path):
            continue
        if os.path.getsize(path) > LARGEST:
            log.warning("%s is not copied: larger than %d MB", path, LARGEST >> 20)
            continue
        with open(path, "rb") as file:
            found[name] = file.read()
    return found


def write_small_files(files: Mapping[str, bytes], folder: str) -> None:
    for name, content in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


def of_tokenizer(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those of a folder's small files from which its tokenizer is loaded."""
    return {
        name: content for name, content in files.items() if name in TOKENIZER_FILES or name.startswith(MORE_TEMPLATES)
    }


def json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def json_mapping(content: bytes | None) -> dict[str, Any] | None:
    """The mapping in a JSON file; None if there is none, or it holds something else."""
    try:
        read = json.loads((content or b"").decode("utf-8-sig"))
    except ValueError:
        return None
    return read if isinstance(read, dict) else None


# -- one file after another --------------------------------------------------------------------------------------------


def with_both_spellings(config: Mapping[str, Any], rope: Mapping[str, Any] | None) -> dict[str, Any]:
    """A config.json's mapping with rotary positions and number format as transformers 4 and 5 write them.

    `rope` is the value that transformers reads as `rope_parameters` of this mapping. Existing keys are kept.
    """
    mended = dict(config)
    dtype = mended.get("dtype") or mended.get("torch_dtype")
    missing: dict[str, Any] = {"dtype": dtype, "torch_dtype": dtype} if dtype is not None else {}
    if rope:
        missing |= {"rope_parameters": copy.deepcopy(dict(rope)), **older_rope(rope)}
    mended |= {name: value for name, value in missing.items() if mended.get(name) is None}
    return mended


def older_rope(rope: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_parameters` in the format of transformers 4; empty for kinds that it does not know."""
    if all(isinstance(value, Mapping) or value is None for value in rope.values()):
        return _older_nested(rope)
    if rope.get("rope_theta") is None:
        return {}
    older: dict[str, Any] = {"rope_theta": rope["rope_theta"], "rope_scaling": _scaling(rope)}
    if rope.get("partial_rotary_factor") is not None:
        older["partial_rotary_factor"] = rope["partial_rotary_factor"]
    return older


def _older_nested(rope: Mapping[str, Any]) -> dict[str, Any]:
    """The same for models whose layers use two rotary frequencies (Gemma 3): sliding layers have a key of their own."""
    full, sliding = rope.get("full_attention"), rope.get("sliding_attention")
    if set(rope) != {"full_attention", "sliding_attention"} or not full or not sliding or _scaling(sliding):
        return {}
    if full.get("rope_type") == "proportional" or "partial_rotary_factor" in full:
        return {}
    return {
        "rope_theta": full.get("rope_theta"),
        "rope_local_base_freq": sliding.get("rope_theta"),
        "rope_scaling": _scaling(full),
    }


def _scaling(rope: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    rest = {name: value for name, value in rope.items() if name not in (*ROPE_OF_ITS_OWN, "rope_type", "type")}
    if kind == "default" and not rest:
        return None
    if kind == "longrope":
        # Phi-3's configuration takes these three alone; the window it was trained with has a field of its own.
        return {"type": kind} | {name: rest[name] for name in ("short_factor", "long_factor") if name in rest}
    return {"rope_type": kind, **rest}


def with_common_tokenizer_class(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files with a tokenizer class and a list of additional special tokens that transformers 4 knows too."""
    written = json_mapping(files.get(TOKENIZER_CONFIG))
    if written is None:
        return dict(files)
    mended = dict(written)
    if str(written.get("tokenizer_class")).endswith(NEW_CLASSES) and "tokenizer.json" in files:
        mended["tokenizer_class"] = COMMON_CLASS
    if isinstance(extra := written.get("extra_special_tokens"), list):
        # A list there is read by transformers 5 alone; 4 takes a mapping and stops at a list.
        del mended["extra_special_tokens"]
        mended["additional_special_tokens"] = [*(written.get("additional_special_tokens") or []), *extra]
    return dict(files) if mended == written else {**files, TOKENIZER_CONFIG: json_bytes(mended)}


def with_turn_end(content: bytes | None, end_id: int, fallback: Mapping[str, Any]) -> bytes:
    """generation_config.json that lists the token with which rows end among its end-of-text tokens.

    Unchanged, byte for byte, if it lists the token already or cannot be read. `fallback`: config.json's mapping, which
    says the same for a folder without this file.
    """
    written = json_mapping(content)
    if written is None and content is not None:
        return content
    start = written if written is not None else {}
    ends = _ids(start.get("eos_token_id")) or _ids(fallback.get("eos_token_id"))
    if end_id in ends and written is not None:
        return content or b""
    if written is None:
        start = {name: fallback[name] for name in ("bos_token_id", "pad_token_id") if fallback.get(name) is not None}
    ends = ends if end_id in ends else [*ends, end_id]
    return json_bytes({**start, "eos_token_id": ends[0] if len(ends) == 1 else ends})


def _ids(value: Any) -> list[int]:
    if isinstance(value, bool) or value is None:
        return []
    values: Iterable[Any] = value if isinstance(value, list) else [value]
    return [token for token in values if isinstance(token, int) and not isinstance(token, bool)]
