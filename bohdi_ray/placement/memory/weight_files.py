"""Finds which files of a model's folder are its weights. Reads names and the index, never a tensor.

Called by whatever reads sizes or tensors off a folder (estimate.py, the preflight). Folders hold more than the weights
that are loaded: Mistral's own `consolidated*.safetensors` beside the same tensors in Hugging Face's layout, copies in
another number format (`model.fp16.safetensors`), adapters. vLLM and transformers go by the index; so does this.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
# What is beside a model's weights under the same suffix, where no index tells them apart.
BESIDE = re.compile(
    r"consolidated.*|adapter_.*|model(-\d+-of-\d+)?\.(?!safetensors$).+|.*(optimizer|scheduler|training_args|rng_state).*"
)


_NUMBERED = re.compile(r"(?P<stem>.+)-\d+-of-(?P<num>\d+)\.safetensors")


class WeightFilesError(ValueError):
    """The weight files of a folder are ambiguous or incomplete. The message is a rule for people."""

    def __init__(self, rule: str, missing: tuple[str, ...] = ()):
        super().__init__(rule)
        self.rule, self.missing = rule, missing

    def __reduce__(self) -> tuple[type[WeightFilesError], tuple[str, tuple[str, ...]]]:
        return WeightFilesError, (self.rule, self.missing)


def weight_files(folder: Path) -> list[Path]:
    """The *.safetensors that hold the model, each once, by name; [] where there are none.

    Those that model.safetensors.index.json names; without an index model.safetensors; without that all but what is
    known to be beside weights. Raises WeightFilesError for a damaged index, for a file it names that is not there, and
    for files numbered `-of-N` that are not N.
    """
    if (folder / INDEX).is_file():
        return _indexed(folder)
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    found = sorted(file for file in folder.glob("*.safetensors") if not BESIDE.fullmatch(file.name))
    _check_numbers([file.name for file in found])
    return found


def index_needed(folder: Path) -> tuple[str, str] | None:
    """Why the trainer would not find a target's weights, as rule and remedy: it reads one file with the usual name, or
    the files named in an index. vLLM reads all files."""
    if any((folder / name).is_file() for name in (INDEX, WHOLE)):
        return None
    rule = f"it has neither {WHOLE} nor {INDEX}, one of which is needed to find the weights of a target"
    return rule, f"Download {INDEX} too, or save the model again with save_pretrained."


def _check_numbers(names: list[str]) -> None:
    """Checks that all files are there: without an index, their names say how many there must be."""
    numbered = [found for name in names if (found := _NUMBERED.fullmatch(name))]
    series: dict[tuple[str, int], int] = {}
    for found in numbered:
        of = found["stem"], int(found["num"])
        series[of] = series.get(of, 0) + 1
    for (stem, num), there in series.items():
        if there != num:
            raise WeightFilesError(f"the folder has {there} of {num} files {stem}-…-of-{num:05}.safetensors")


def _indexed(folder: Path) -> list[Path]:
    try:
        weight_map = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError("its weight_map names no files")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightFilesError(f"{INDEX} is damaged ({type(error).__name__}: {error})") from error
    outside = [name for name in names if Path(name).is_absolute() or ".." in Path(name).parts]
    if outside:
        raise WeightFilesError(f"{INDEX} names files outside the folder: {outside[0]}")
    missing = tuple(name for name in names if not (folder / name).is_file())
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise WeightFilesError(f"{INDEX} names {', '.join(missing[:3])}{more}, which the folder does not have", missing)
    return [folder / name for name in names]
