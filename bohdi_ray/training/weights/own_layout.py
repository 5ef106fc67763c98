"""The target's own layout: stored next to version 0 when that is published, and used again for writing RUN/target.

Called by versions.py. RUN/target is the user's folder with other values in the tensors that were trained: every other
tensor (a vision tower, heads for several tokens at a time) and every other file is carried over.
"""

from __future__ import annotations

import copy
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bohdi_ray.engines.chat.hf_tokenizer import SAMPLE
from bohdi_ray.errors import ConfigError, RunDirError
from bohdi_ray.training.weights import model_files
from bohdi_ray.training.weights.checkpoint_tensors import names_in, read_tensors, tensor_files, write_file, write_shards
from bohdi_ray.training.weights.loading import BaseModel, is_tied
from bohdi_ray.training.weights.model_files import CONFIG, GENERATION_CONFIG, json_bytes, json_mapping

log = logging.getLogger(__name__)
ORIGINAL, REST = "original", "rest.safetensors"


@dataclass(frozen=True, slots=True)
class OwnLayout:
    """layout.json. `tensors`: name in the model's own checkpoint -> name in a published version; those of `rest.…` in
    original/ are not among them."""

    tied: bool
    tensors: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> OwnLayout:
        """Raises RunDirError for a layout that an earlier version of bohdi_ray wrote."""
        if "tensors" not in content:
            raise RunDirError("layout.json was written by an earlier version of bohdi_ray; use that version")
        return cls(bool(content["tied"]), dict(content["tensors"]))


def engine_files(folder: str, base: BaseModel, tokenizer: Any, end_id: int, untied: bool) -> dict[str, bytes]:
    """The files other than tensors in engine layout."""
    network, own = base.network, model_files.small_files(folder)
    config = network.config.to_dict()
    config["architectures"] = network.config.architectures or [type(network).__name__]
    config["dtype"] = str(network.dtype).removeprefix("torch.")
    config["use_cache"] = True
    config.pop("quantization_config", None)
    if untied:
        config["tie_word_embeddings"] = False
    files = {CONFIG: json_bytes(_spelled_both_ways(config, network.config))}
    # vLLM reads this file alone, not config.json beside it.
    generation = model_files.with_turn_end(
        own.get(GENERATION_CONFIG), end_id, {} if GENERATION_CONFIG in own else config
    )
    if not _is_readable_generation_config(generation):
        log.warning("%s of %s cannot be read; engines run without it", GENERATION_CONFIG, folder)
        generation = model_files.with_turn_end(None, end_id, config)
    files[GENERATION_CONFIG] = generation
    return files | _tokenizer_files(own, tokenizer)


def keep_own_layout(folder: str, base: BaseModel, weights_dir: str, end_id: int, base_dir: str) -> OwnLayout:
    """Stores in original/ of `base_dir` everything of the model's folder that training does not change. Returns the
    layout."""
    original = os.path.join(base_dir, ORIGINAL)
    files = model_files.small_files(folder)
    raw = json_mapping(files[CONFIG]) or {}
    files[CONFIG] = json_bytes(_own_config(raw, base))
    files = model_files.with_common_tokenizer_class(files)
    if json_mapping(files.get(GENERATION_CONFIG)) is not None or GENERATION_CONFIG not in files:
        files[GENERATION_CONFIG] = model_files.with_turn_end(files.get(GENERATION_CONFIG), end_id, raw)
    os.makedirs(original)
    model_files.write_small_files(files, original)

    def broken(reason: str) -> Exception:
        return ConfigError("target.model", folder, reason, "Save the model again with transformers.")

    stored = tensor_files(folder, broken)
    published = tensor_files(weights_dir, broken)
    tensors, rest = _matched(stored, published, base)
    if rest:
        write_file(dict(read_tensors({name: (stored[name], name) for name in rest})), os.path.join(original, REST))
    return OwnLayout(is_tied(base.network), tensors)


def write_own_layout(layout: OwnLayout, version_dir: str, base_dir: str, out_dir: str) -> None:
    """Writes a published version in the model's own layout."""
    original = os.path.join(base_dir, ORIGINAL)

    def broken(reason: str) -> Exception:
        return RunDirError(f"the weights in {version_dir} cannot be used: {reason}. Restore the folder from a copy")

    files = tensor_files(version_dir, broken)
    sources = {name: (files[own], own) for name, own in layout.tensors.items()}
    if os.path.isfile(rest := os.path.join(original, REST)):
        sources |= {name: (rest, name) for name in names_in(rest)}
    write_shards(read_tensors(dict(sorted(sources.items()))), out_dir)
    model_files.write_small_files(model_files.small_files(original), out_dir)


def _matched(
    stored: Mapping[str, str], published: Mapping[str, str], base: BaseModel
) -> tuple[dict[str, str], list[str]]:
    """The name in a published version for each tensor of the checkpoint, and the names of tensors that are in no
    version."""
    tied = dict(base.network.all_tied_weights_keys)
    tensors: dict[str, str] = {}
    for name in stored:
        own = base.own_name(name)
        own = own if own in published else tied.get(own, own)
        if own in published:
            tensors[name] = own
    untied = {head for head in tied if is_tied(base.network)}
    if not set(published) - set(tensors.values()) - untied:
        return tensors, [name for name in stored if name not in tensors]
    # transformers groups this model's tensors otherwise than the checkpoint did (packed weights, say): its own names.
    assert base.tower_prefix is None, "a wrapper's text model has the tensors that its checkpoint has"
    return {name: name for name in published if name not in untied}, []


def _own_config(raw: dict[str, Any], base: BaseModel) -> dict[str, Any]:
    """The model's own config.json, in both spellings."""
    mended = _spelled_both_ways(raw, base.config)
    mended.pop("quantization_config", None)
    if isinstance(raw.get("text_config"), dict) and base.tower_prefix is not None:
        text = base.config.get_text_config(decoder=True)
        mended["text_config"] = _spelled_both_ways(raw["text_config"], text)
    return mended


def _spelled_both_ways(written: dict[str, Any], config: Any) -> dict[str, Any]:
    """`written`, which transformers reads as `config`, with the spelling for older versions added; unchanged if this
    version would then read something else."""
    rope = getattr(config, "rope_parameters", None)
    mended = model_files.with_both_spellings(written, rope if isinstance(rope, Mapping) else None)
    again = type(config).from_dict(copy.deepcopy(mended))  # reading it changes it
    if _without_type(getattr(again, "rope_parameters", None)) == _without_type(rope):
        return mended
    log.warning("rotary positions of %s are written only in the format of transformers 5", type(config).__name__)
    return model_files.with_both_spellings(written, None)


def _without_type(rope: Any) -> Any:
    if not isinstance(rope, Mapping):
        return rope
    return {name: _without_type(value) for name, value in rope.items() if name != "type"}


def _tokenizer_files(own: Mapping[str, bytes], tokenizer: Any) -> dict[str, bytes]:
    """The user's own tokenizer files, if transformers and vLLM load the same tokenizer from them alone."""
    files = model_files.with_common_tokenizer_class(model_files.of_tokenizer(own))
    template = {"chat_template.jinja": str(tokenizer.chat_template).encode()}
    for candidate in (files, files | template):
        with tempfile.TemporaryDirectory() as folder:
            model_files.write_small_files(candidate | {CONFIG: own[CONFIG]}, folder)
            if _loads_as(folder, tokenizer):
                return candidate
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return model_files.small_files(folder)


def _loads_as(folder: str, tokenizer: Any) -> bool:
    """Whether `AutoTokenizer`, without the corrections of hf_tokenizer.py, gives this tokenizer."""
    from transformers import AutoTokenizer

    try:
        other = AutoTokenizer.from_pretrained(folder)
    except Exception:  # transformers raises whatever the readers of the file formats raise
        return False
    return (
        other.chat_template == tokenizer.chat_template
        and other.get_vocab() == tokenizer.get_vocab()
        and other.eos_token_id == tokenizer.eos_token_id
        and other.encode(SAMPLE) == tokenizer.encode(SAMPLE)
    )


def _is_readable_generation_config(content: bytes) -> bool:
    """Whether transformers, and so vLLM, can read it."""
    from transformers import GenerationConfig

    written = json_mapping(content)
    if written is None:
        return False
    try:
        GenerationConfig.from_dict(written).to_diff_dict()
    except Exception:  # it checks some of the values, each with errors of its own
        return False
    return True
