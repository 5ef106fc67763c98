"""The Hugging Face tokenizer of a model, the same for its engine and for training.

transformers itself loads the wrong tokenizer from three kinds of folders: Mistral's (tekken.json makes it choose a
tokenizer without chat template, and vLLM too), folders whose tokenizer_config.json names a class that is not what
tokenizer.json holds (DeepSeek-R1-Distill-Llama: every space is lost), and those that keep their template in
chat_template.json. Called by training/weights/versions.py, and by engine.py before vLLM starts. Imports transformers
inside functions.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bohdi_ray.engines.chat.folder_template import FolderTemplate, template_of
from bohdi_ray.errors import ConfigError

log = logging.getLogger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")  # of Hugging Face's layout; one of them
TEKKEN = "tekken.json"  # Mistral's own
TEKKEN_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
MISTRAL_FILES = ("consolidated*.safetensors", "params.json", TEKKEN, "tokenizer.model.v*")
# What is fetched of a hub repository to look at its tokenizer; no weights.
SMALL_FILES = ("*.json", "*.jinja", "*.txt", "tokenizer.model*", f"additional_chat_templates{os.sep}*")
# Words, line breaks, indents, numbers, other scripts: tokenizers that treat any of these differently give other ids.
SAMPLE = "Why is it 12,345.67?\n\n\tif a_b != 'x':  # It's über-café, 你好, здравствуй, नमस्ते.\n    return  "


@dataclass(frozen=True, slots=True)
class ModelTokenizer:
    """A model's tokenizer, and what must be passed to vLLM, which loads the tokenizer by itself in each of its
    processes."""

    tokenizer: Any
    files: Path | None  # the model's own, for a hub repository its small ones; None when they could not be had
    is_mended: bool  # `AutoTokenizer` with Mistral's format off gives another one

    def folder_for_vllm(self, scratch: str) -> str | None:
        """A folder below `scratch` from which `AutoTokenizer` loads this tokenizer; None if it can load it from the
        model's own folder."""
        if not self.is_mended:
            return None
        folder = os.path.join(scratch, "tokenizer")
        self.tokenizer.save_pretrained(folder)
        if self.files is not None and (self.files / "config.json").is_file():
            shutil.copy(self.files / "config.json", folder)  # it tells AutoTokenizer which model this is
        return folder


def load_tokenizer(path: str, **options: Any) -> Any:
    """The tokenizer of a folder or hub repository, with its chat template if any file there has one.

    `options` are those of `from_pretrained` (revision, trust_remote_code, padding_side).
    """
    return model_tokenizer(path, **options).tokenizer


def model_tokenizer(path: str, **options: Any) -> ModelTokenizer:
    """As `load_tokenizer`, with what must be passed to vLLM."""
    return tokenizer_from(files_of(path, options.get("revision")), path, **options)


def tokenizer_from(files: Path | None, path: str, **options: Any) -> ModelTokenizer:
    """As `model_tokenizer`, where the result of `files_of` is known already."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    options = {"trust_remote_code": False, **options}  # unsaid, transformers asks whoever sits at the terminal
    if files is not None and only_tekken(files):
        return ModelTokenizer(_converted(files, options), files, True)
    # Without Mistral's format, which wins over Hugging Face's wherever tekken.json is.
    tokenizer = AutoTokenizer.from_pretrained(path, mistral_format=False, **options)
    if files is None:
        return ModelTokenizer(tokenizer, None, False)
    is_mended = False
    if not options.get("trust_remote_code") and not _encodes_as_published(tokenizer, files):
        log.warning("%s: the tokenizer class it names does not fit its tokenizer.json; tokenizer.json is used", path)
        plain = {name: value for name, value in options.items() if name != "trust_remote_code"}
        tokenizer = PreTrainedTokenizerFast.from_pretrained(path, **plain)
        is_mended = True
    if not tokenizer.chat_template and (template := template_of(files)):
        tokenizer.chat_template = template
        is_mended = True
    return ModelTokenizer(tokenizer, files, is_mended)


def _converted(files: Path, options: Mapping[str, Any]) -> Any:
    """A Hugging Face tokenizer made from tekken.json; its template is the folder's, else one made from Mistral's
    rules."""
    from transformers.integrations.mistral.tokenizer import convert_tekken_tokenizer

    tokenizer = convert_tekken_tokenizer(str(files / TEKKEN), template_of(files))
    if "padding_side" in options:
        tokenizer.padding_side = options["padding_side"]
    return tokenizer


def tekken_template(folder: Path) -> FolderTemplate | None:
    """The template that a folder with tekken.json alone and no template gets when it is loaded; None if none can be
    made."""
    try:
        from mistral_common.integrations.chat_templates.chat_templates import convert_tokenizer_to_chat_template

        template = convert_tokenizer_to_chat_template(str(folder / TEKKEN))
    except Exception as error:
        # A damaged or unknown tekken.json, or none of vLLM's packages; transformers goes on without a template, too.
        log.info("%s: its %s gives no chat template (%s)", folder, TEKKEN, error)
        return None
    return FolderTemplate(template, TEKKEN_TOKENS)


def require_hugging_face_layout(field: str, folder: Path) -> None:
    """Raises ConfigError for a folder that holds a model only in Mistral's own format."""
    if (folder / "config.json").is_file() or not (folder / "params.json").is_file():
        return
    rule = "the folder has the model only in Mistral's own format (params.json, no config.json)"
    remedy = "Download the complete repository, which has config.json and model-*.safetensors with their index too."
    raise ConfigError(field, str(folder), rule, remedy)


def has_mistral_format(files: Path | None) -> bool:
    """Whether the folder has Mistral's own files, which vLLM prefers to Hugging Face's unless configured otherwise."""
    return files is not None and any(next(files.glob(pattern), None) for pattern in MISTRAL_FILES)


def only_tekken(folder: Path) -> bool:
    """Whether a folder has Mistral's tokenizer and none in Hugging Face's layout."""
    return (folder / TEKKEN).is_file() and not any((folder / name).is_file() for name in TOKENIZER_FILES)


def _encodes_as_published(tokenizer: Any, folder: Path) -> bool:
    """Whether the tokenizer gives the same ids as the folder's tokenizer.json alone; true if there is no such file."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        return True
    published = Tokenizer.from_file(str(file))
    return tokenizer.encode(SAMPLE, add_special_tokens=False) == published.encode(SAMPLE, add_special_tokens=False).ids


def files_of(path: str, revision: str | None) -> Path | None:
    """The folder, or the local copy of a hub repository's small files; None if they are not available."""
    if os.path.isdir(path):
        return Path(path)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=list(SMALL_FILES)))
    except Exception as error:  # the loading itself says what is the matter with a repository
        log.info("%s: its files could not be inspected (%s)", path, error)
        return None
