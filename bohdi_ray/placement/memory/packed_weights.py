"""Sizes of the tensors in a model's files, as loaded by an engine, as trained, and as published. Pure.

Called by estimate.py.

    engine      floats of two bytes and more are converted to the engine's format; everything else is packed and kept
    training    the language model alone; MXFP4 as the numbers it stands for, two in a byte of blocks, none in scales
    published   what is trained, and an embedding once more where the engines need a head of its own
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bohdi_ray.engines.families.targets import DEQUANTIZED, is_wrapper, quantization_of
from bohdi_ray.engines.families.vllm_heads import takes_own_head
from bohdi_ray.placement.memory.engine_settings import NUM_BYTES
from bohdi_ray.placement.memory.weight_headers import PLAIN, STORED_BYTES, Table

# Parts of tensors' names in models of several modalities that are not the language model's.
OTHER_TOWERS = {
    *("vision_tower", "visual", "vision_model", "vision_encoder", "vision_language_adapter", "multi_modal_projector"),
    *("patch_merger", "embed_vision", "audio_tower", "audio_encoder", "embed_audio", "multimodal_projector"),
}
BLOCKS, SCALES, IN_A_BYTE = "_blocks", "_scales", 2
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embedding.weight")
HEADS = ("lm_head.weight", "embed_out.weight", "output_layer.weight")


@dataclass(slots=True)
class Counted:
    """Sums over the tensors of all files."""

    num_params: int = 0
    stored_bytes: int = 0
    num_other: int = 0  # of towers for images and sound
    num_packed: int = 0  # of formats that engines keep as they are
    packed_bytes: int = 0
    num_published: int = 0
    num_head: int = 0  # of the embedding, where it is published once more
    published_bytes: int = 0


def counted(tables: Iterable[Table], config: Mapping[str, Any]) -> Counted:
    """Sums of these tables of tensors; `config` is the whole config.json."""
    sums, embedding, has_head = Counted(), 0, False
    unpacks = quantization_of(config) in DEQUANTIZED
    float_bytes = NUM_BYTES.get(str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch."))
    for table in tables:
        for name, tensor in table.items():
            numbers, dtype = math.prod(tensor["shape"]), tensor["dtype"]
            num_bytes = numbers * STORED_BYTES.get(dtype, 1)
            sums.num_params += numbers
            sums.stored_bytes += num_bytes
            if dtype not in PLAIN:
                sums.num_packed += numbers
                sums.packed_bytes += num_bytes
            if OTHER_TOWERS & set(name.split(".")):
                sums.num_other += numbers
                continue
            if unpacks and dtype == "U8":
                numbers = 0 if name.endswith(SCALES) else numbers * IN_A_BYTE if name.endswith(BLOCKS) else numbers
                num_bytes = numbers * (float_bytes or 2)
            elif float_bytes and dtype in PLAIN:
                num_bytes = numbers * float_bytes
            sums.num_published += numbers
            sums.published_bytes += num_bytes
            if name.endswith(EMBEDDINGS):
                embedding = max(embedding, numbers)
            has_head = has_head or name.endswith(HEADS)
    if embedding and not has_head and takes_own_head(_published_class(config)):
        sums.num_head = embedding
        sums.published_bytes += embedding * (float_bytes or sums.published_bytes // max(1, sums.num_published))
    return sums


def _published_class(config: Mapping[str, Any]) -> str:
    """The architecture that the engines of a target load; empty for a wrapper's language model, whose name the wrapper
    does not tell: all that can be trained by themselves take a head."""
    names = config.get("architectures") or [""]
    return "" if is_wrapper(config) else str(names[0])
