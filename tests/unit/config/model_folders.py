"""Safetensors files of given shapes, all zeros, and the names of a whole model's tensors."""

import json
import math
from pathlib import Path

from bohdi_ray.placement.memory.model_tensors import LAYER_TENSORS

SHAPES = {"model.embed_tokens.weight": [1000, 64], "model.layers.0.mlp.weight": [64, 256], "model.norm.weight": [64]}
CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NUM_PARAMS = 1000 * 64 + 64 * 256 + 64


def write_safetensors(file: Path, shapes: dict[str, list[int]], dtype: str = "BF16", num_bytes: int = 2) -> None:
    table, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * num_bytes
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(table).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(end))


def tensors_of(model_type: str, num_layers: int = 3, prefix: str = "model.", head: bool = True) -> list[str]:
    names = [f"{prefix}{name}" for name in ("embed_tokens.weight", "norm.weight")]
    names += [f"{prefix}layers.{i}.{name}" for i in range(num_layers) for name in LAYER_TENSORS[model_type]]
    return [*names, *(["lm_head.weight"] if head else [])]
