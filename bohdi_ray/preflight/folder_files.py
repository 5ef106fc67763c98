"""Which files of a model's folder are read, and whether each one exists and is complete. Part of the preflight.

Called by models.py for every folder, and by hub.py, which downloads what is parsed here. Reads small files; of weights
only whether there are any.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from bohdi_ray.config.addresses import default_cache_dir
from bohdi_ray.engines.chat.hf_tokenizer import TEKKEN
from bohdi_ray.engines.chat.hf_tokenizer import TOKENIZER_FILES as COMMON_TOKENIZER_FILES
from bohdi_ray.placement.memory.weight_files import INDEX, weight_files
from bohdi_ray.placement.memory.weight_headers import file_fault

TOKENIZER_FILES = (*COMMON_TOKENIZER_FILES, TEKKEN)
# Whatever engines and trainer read beside the weights; a file that is missing is another check's affair.
READ_FILES = (
    *("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", INDEX),
    *("tokenizer.json", "tokenizer.model", "vocab.json", "added_tokens.json"),
    *("chat_template.jinja", "chat_template.json"),
)
PARSED_FILES = tuple(name for name in READ_FILES if Path(name).suffix in (".json", ".jinja"))
MAX_PARSED_BYTES = 4_000_000  # of a JSON file that is read only to see whether it can be
AGAIN = "Make or download the folder again."


def folder_fault(folder: Path) -> tuple[str, str] | None:
    """Why a folder is not a complete model folder, as rule and remedy."""
    if not folder.is_dir():
        if folder.is_relative_to(default_cache_dir()):
            return "the model is not in the cache yet", "Make it: bohdi prepare-quickstart (`make demo` does)."
        return "there is no such folder", "Give a folder in Hugging Face layout, or a hub id."
    if not (folder / "config.json").is_file():
        remedy = "Give a folder in Hugging Face layout (save_pretrained makes one)."
        return "the folder has no config.json", remedy
    for name in READ_FILES:
        path = folder / name
        if not path.is_file() and not path.is_symlink():
            continue
        if (fault := file_fault(path)) is not None:
            return fault
        if path.suffix == ".json" and (rule := _json_fault(path)) is not None:
            return rule, AGAIN
    try:
        weights = weight_files(folder)
    except ValueError as error:
        return str(error), AGAIN
    if fault := next((fault for file in weights if (fault := file_fault(file)) is not None), None):
        return fault
    if not weights:
        rule = (
            "the folder has no *.safetensors in Hugging Face layout, and other formats can run code when they are read"
        )
        return rule, "Save the weights as safetensors: model.save_pretrained(folder)."
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return "the folder has no tokenizer", "Save it there: tokenizer.save_pretrained(folder)."
    return None


def _json_fault(file: Path) -> str | None:
    """Why a file is not valid JSON; of a large file only whether it is cut off."""
    try:
        if file.stat().st_size <= MAX_PARSED_BYTES:
            json.loads(file.read_bytes())
            return None
        with file.open("rb") as stream:
            stream.seek(-64, os.SEEK_END)
            whole = stream.read().rstrip().endswith((b"}", b"]"))
    except (OSError, ValueError) as error:
        return f"{file.name} is damaged ({error})"
    return None if whole else f"{file.name} breaks off: it is damaged"
