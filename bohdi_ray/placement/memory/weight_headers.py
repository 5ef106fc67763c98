"""Reads the headers (tables of tensors) of a model's safetensors files, and checks that the files are complete.

Called by estimate.py, which adds up sizes, and by the preflight, which reads each head once for both. Reads heads and
file sizes, never a tensor.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bohdi_ray.placement.memory.weight_files import INDEX, weight_files

# safetensors' names of number formats
STORED_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
STORED_BYTES |= {"U64": 8, "U32": 4, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}
PLAIN = frozenset({"F64", "F32", "F16", "BF16"})  # formats of numbers that can be trained
COUNTS = frozenset({"I64", "U64", "BOOL"})  # formats of positions, tables of ids and masks, of which no weight is
# Kept beside weights by older models.
BUFFERS = (".attn.bias", ".attention.bias", ".masked_bias", "position_ids", "inv_freq")
MAX_HEADER_BYTES = 100_000_000
LENGTH_BYTES = 8
POINTER = b"version https://git-lfs"

Table = dict[str, Any]  # dtype, shape and data_offsets by tensor name
Headers = dict[Path, Table]


def file_fault(file: Path) -> tuple[str, str] | None:
    """Why a file of a model cannot be read, as rule and remedy: it is empty, or a Git LFS pointer."""
    again = "Download it again."
    if file.is_symlink() and not file.exists():
        return f"{file.name} is a link to a file that does not exist", again
    try:
        with file.open("rb") as stream:
            start = stream.read(len(POINTER))
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror})", "Correct its permissions, or download it again."
    if not start:
        return f"{file.name} is empty", again
    if start == POINTER:
        remedy = "Fetch the files: `git lfs pull` in the folder, or `hf download`."
        return f"{file.name} is a Git LFS pointer and not the file itself", remedy
    return None


def headers_of(folder: Path) -> Headers:
    """The header of every file that holds the model. Raises ValueError (including WeightFilesError) and OSError for
    files that are missing, damaged or cut short."""
    return {file: header_of(file) for file in weight_files(folder)}


def index_fault(folder: Path, headers: Headers) -> str | None:
    """Tensors that the index assigns to files that do not have them, as a rule for people."""
    if not (folder / INDEX).is_file():
        return None
    lost = [
        (tensor, name)
        for tensor, name in json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].items()
        if tensor not in headers[folder / name]
    ]
    if not lost:
        return None
    tensor, name = lost[0]
    more = f", nor {len(lost) - 1} others where it says" if len(lost) > 1 else ""
    return f"{INDEX} looks for {tensor} in {name}, which does not hold it{more}"


def quantized_as(tensors: Mapping[str, Any]) -> str | None:
    """The number format of the first weight that is not stored in plain numbers; None if all are. `tensors`: table
    entries. Formats are checked because quantization methods and their file names keep changing."""
    stored = {entry["dtype"] for name, entry in tensors.items() if not name.endswith(BUFFERS)}
    return min(stored - PLAIN - COUNTS, default=None)


def header_of(file: Path) -> Table:
    """The header of a safetensors file: 8 bytes of length, then JSON. Raises ValueError and OSError."""
    if fault := file_fault(file):
        raise ValueError(fault[0])
    num_bytes = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        if not 2 <= length <= MAX_HEADER_BYTES:
            raise ValueError(f"{file.name} is not a safetensors file")
        if length > num_bytes - LENGTH_BYTES:
            raise ValueError(f"{file.name} is cut short: its header alone would take {length} bytes")
        try:
            table = json.loads(stream.read(length))
        except ValueError:
            raise ValueError(f"{file.name} is not a safetensors file: its header is not JSON") from None
    if not isinstance(table, dict):
        raise ValueError(f"{file.name} is not a safetensors file")
    table.pop("__metadata__", None)
    _check_offsets(file.name, table, num_bytes - LENGTH_BYTES - length)
    return table


def _check_offsets(name: str, table: Mapping[str, Any], num_bytes: int) -> None:
    """Checks safetensors' rule: tensors are contiguous, each as long as its shape says, and fill the file."""
    places = []
    for tensor, entry in table.items():
        try:
            (start, end), shape, dtype = entry["data_offsets"], entry["shape"], entry["dtype"]
            size = math.prod(shape) * STORED_BYTES[dtype] if dtype in STORED_BYTES else end - start
            right = 0 <= start <= end and end - start == size
        except (KeyError, TypeError, ValueError):
            right = False
        if not right:
            raise ValueError(f"{name} is damaged: its header is inconsistent about {tensor}")
        places.append((start, end))
    places.sort()
    if any(left[1] != right[0] for left, right in itertools.pairwise(places)) or (places and places[0][0] != 0):
        raise ValueError(f"{name} is damaged: its tensors are not contiguous")
    needed = places[-1][1] if places else 0
    if needed > num_bytes:
        raise ValueError(f"{name} is cut short: its tensors take {needed} bytes, but it has only {num_bytes}")
    if needed < num_bytes:
        raise ValueError(f"{name} is damaged: it has {num_bytes - needed} bytes after its tensors")
