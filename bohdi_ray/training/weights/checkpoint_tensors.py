"""Tensors of checkpoints in safetensors files: locates them, reads them one by one, writes them in shards.

Called by loading.py and versions.py. Knows nothing of models. Imports torch and safetensors inside functions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from bohdi_ray.training.weights.checkpoints import open_to_umask, write_text

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000
_PART = ".safetensors.part"


def tensor_files(folder: str, broken: Callable[[str], Exception]) -> dict[str, str]:
    """Name of every tensor of a checkpoint -> file that holds it. Raises the error that `broken` makes from a
    reason."""
    from safetensors import SafetensorError

    found: dict[str, str] = {}
    for file in weight_files(folder, broken):
        path = os.path.join(folder, file)
        try:
            found |= dict.fromkeys(names_in(path), path)
        except FileNotFoundError:
            raise broken(f"{file} does not exist, although the index of its weights names it") from None
        except (SafetensorError, OSError) as error:
            raise broken(f"{file} is damaged, cut short or not a safetensors file ({error})") from error
    return found


def names_in(path: str) -> list[str]:
    """Names of the tensors in one safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as tensors:
        return list(tensors.keys())


def weight_files(folder: str, broken: Callable[[str], Exception]) -> list[str]:
    """The files from which transformers reads a checkpoint."""
    index = os.path.join(folder, INDEX)
    if os.path.isfile(os.path.join(folder, SINGLE)) and not os.path.isfile(index):
        return [SINGLE]
    try:
        with open(index, encoding="utf-8") as file:
            weight_map = json.load(file)["weight_map"]
        return sorted(set(weight_map.values()))
    except FileNotFoundError:
        raise broken(f"it has neither {SINGLE} nor {INDEX}") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise broken(f"{INDEX} cannot be read ({error})") from error


def read_tensors(sources: Mapping[str, tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    """Yields names and tensors, one after another. `sources`: name -> file, name in that file."""
    from safetensors import safe_open

    with ExitStack() as stack:
        opened: dict[str, Any] = {}
        for name, (path, stored) in sources.items():
            if path not in opened:
                opened[path] = stack.enter_context(safe_open(path, framework="pt"))
            yield name, opened[path].get_tensor(stored)


def write_tensors(tensors: Mapping[str, Any], folder: str) -> None:
    """Writes a whole checkpoint as files that transformers and vLLM find."""
    from huggingface_hub import split_torch_state_dict_into_shards

    split = split_torch_state_dict_into_shards(dict(tensors), max_shard_size=SHARD_BYTES)
    for name, members in split.filename_to_tensors.items():
        write_file({member: tensors[member] for member in members}, os.path.join(folder, name))
    if split.is_sharded:
        _write_index(folder, split.metadata, split.tensor_to_filename)


def write_shards(tensors: Iterable[tuple[str, Any]], folder: str) -> None:
    """As `write_tensors`, for tensors that come one after another: at most one shard of them is in memory."""
    shards: list[list[str]] = []
    sizes: list[int] = []
    held: dict[str, Any] = {}

    def flush() -> None:
        write_file(held, os.path.join(folder, f"{len(shards)}{_PART}"))
        shards.append(list(held))
        sizes.append(sum(map(_num_bytes, held.values())))
        held.clear()

    for name, tensor in tensors:
        if held and sum(map(_num_bytes, held.values())) + _num_bytes(tensor) > SHARD_BYTES:
            flush()
        held[name] = tensor
    flush()
    last = len(shards)
    names = [SINGLE] if last == 1 else [f"model-{number:05}-of-{last:05}.safetensors" for number in range(1, last + 1)]
    for number, name in enumerate(names):
        os.rename(os.path.join(folder, f"{number}{_PART}"), os.path.join(folder, name))
    if len(shards) > 1:
        files = {member: name for name, members in zip(names, shards, strict=True) for member in members}
        _write_index(folder, {"total_size": sum(sizes)}, files)


def _write_index(folder: str, metadata: dict[str, Any], weight_map: dict[str, str]) -> None:
    write_text(os.path.join(folder, INDEX), json.dumps({"metadata": metadata, "weight_map": weight_map}, indent=1))


def _num_bytes(tensor: Any) -> int:
    return tensor.numel() * tensor.element_size()


def write_file(tensors: Mapping[str, Any], path: str) -> None:
    """Writes one safetensors file with the permissions of the umask; the library makes it readable for its owner
    alone."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    open_to_umask(path)
