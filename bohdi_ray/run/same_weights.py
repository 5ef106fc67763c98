"""Compares two folders of weights byte by byte: if they are equal, the run learned nothing.

Used once, at the end of a run. It stops at the first difference, so only equal weights are read completely.
"""

from __future__ import annotations

from bohdi_ray.run.filesystem import Place, storage_errors

CHUNK = 1 << 23
WEIGHTS_SUFFIX = ".safetensors"


def same_weights(one: Place, other: Place) -> bool:
    """Whether the weight files are equal. This program wrote both in one layout, so equal weights give equal files. If
    there are no weight files (scripted trainers), all files are compared."""
    files, others = (_files(folder) for folder in (one, other))
    if not files or files != others:
        return False
    return all(_same_bytes(one.child(name), other.child(name)) for name in files)


def _files(folder: Place) -> dict[str, int]:
    """Sizes of the weight files, by name."""
    names = folder.files_below()
    kept = [name for name in names if name.endswith(WEIGHTS_SUFFIX)] or names
    with storage_errors(folder.shown, "look at"):
        infos = folder.filesystem.get_file_info([folder.child(name).path for name in kept])
    return {name: info.size for name, info in zip(kept, infos, strict=True)}


def _same_bytes(one: Place, other: Place) -> bool:
    with (
        storage_errors(one.shown, "read"),
        one.filesystem.open_input_stream(one.path) as first,
        other.filesystem.open_input_stream(other.path) as second,
    ):
        while True:
            chunk = first.read(CHUNK)
            if chunk != second.read(CHUNK):
                return False
            if not chunk:
                return True
