"""Whether two folders of weights hold the same bytes: what a run that learned nothing ends with.

Asked once, at the end of a run. The first byte that differs answers, so only of weights that are the same is all read.
"""

from __future__ import annotations

from bohdi_ray.run.filesystem import Place, storage_errors

CHUNK = 1 << 23
WEIGHTS_SUFFIX = ".safetensors"


def same_weights(one: Place, other: Place) -> bool:
    """Both were written by this program, in one layout: the same weights are the same files. Without any file of
    weights in them (scripted trainers) all files count."""
    files, others = (_files(folder) for folder in (one, other))
    if not files or files != others:
        return False
    return all(_same_bytes(one.child(name), other.child(name)) for name in files)


def _files(folder: Place) -> dict[str, int]:
    """Sizes of the files of weights, by name."""
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
