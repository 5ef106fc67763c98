"""Weights folders: version 0, published from the target's own model; the trainer's versions; RUN/target for users.

Called inside Ray tasks (`publish_base`, `export_target`) and by rank 0 of the train workers (`write_weights`). Imports
torch and transformers inside functions. An *engine layout* folder is what vLLM starts on and reloads from: safetensors
with the LM head untied (docs/design.md says why), tokenizer and chat template; of a wrapper of several modalities the
language model alone. The target's *own layout* is that of the folder the user gave. It never decides which version is
served.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bohdi_ray.config import VllmModel
from bohdi_ray.config.addresses import is_address
from bohdi_ray.engines.chat.hf_tokenizer import load_tokenizer
from bohdi_ray.engines.chat.vocabulary import check_vocabulary, tokens_without_row
from bohdi_ray.engines.families.vllm_heads import takes_own_head
from bohdi_ray.engines.probe import PROBE_FILE, Probe, probe_token_ids, write_probe
from bohdi_ray.run.filesystem import place_of, storage_errors
from bohdi_ray.run.node_files import plain_files, plain_weights, scratch_of, upload
from bohdi_ray.training.batches.encoding import Encoder
from bohdi_ray.training.weights.checkpoint_tensors import write_tensors
from bohdi_ray.training.weights.checkpoints import commit_folder, is_committed, start_folder, write_text
from bohdi_ray.training.weights.loading import is_tied, load_base, load_model
from bohdi_ray.training.weights.model_files import small_files, write_small_files
from bohdi_ray.training.weights.own_layout import OwnLayout, engine_files, keep_own_layout, write_own_layout

WEIGHTS, LAYOUT = "weights", "layout.json"
PROBE_WINDOW = 256  # tokens; far below any model's window


def publish_base(model: VllmModel, out_dir: str) -> None:
    """Writes version 0 into `out_dir`: weights/ in engine layout, original/ with all of the model's folder that
    training does not change, probe.json, layout.json, COMMIT last. Idempotent.

    Raises ConfigError if the model cannot be a target, its weights are incomplete, or its tokenizer does not fit.
    """
    if is_committed(out_dir):
        return
    folder = local_folder(model)
    base = load_base(folder)
    tokenizer = load_tokenizer(folder)
    _check_tokenizer(tokenizer, base.network, folder)
    variables = model.sampling_of("answer").chat_template_kwargs
    encoder = Encoder(tokenizer, model.system_prompt, PROBE_WINDOW, variables)
    start_folder(out_dir)
    scratch = scratch_of(out_dir)
    weights_dir = os.path.join(scratch, WEIGHTS)
    end_id = encoder.exchange_ids("Hello", "Hello.")[-1]
    files = engine_files(folder, base, tokenizer, end_id, untied=unties(base.network))
    write_weights(base.network, files, base.network.state_dict(), weights_dir, base.network.dtype)
    layout = keep_own_layout(folder, base, weights_dir, end_id, scratch)
    write_probe(os.path.join(scratch, PROBE_FILE), measure_probe(base.network, probe_ids(encoder), 0, "cpu"))
    write_text(os.path.join(scratch, LAYOUT), json.dumps(layout.as_json()))
    commit_folder(out_dir)


def local_folder(model: VllmModel) -> str:
    """The target's folder; for a hub repository the files that transformers would load, downloaded into its cache."""
    folder = os.path.expanduser(model.model)
    if os.path.isdir(folder):
        return folder
    from huggingface_hub import snapshot_download

    from bohdi_ray.training.weights.model_files import NOT_DOWNLOADED

    names = ["*.json", "*.jinja", "*.txt", "*.model", "*.md", "LICENSE*", "NOTICE*", "model*.safetensors"]
    return str(
        snapshot_download(model.model, revision=model.revision, allow_patterns=names, ignore_patterns=NOT_DOWNLOADED)
    )


def export_target(weights_dir: str, base_model_dir: str, out_dir: str) -> None:
    """Writes a version in the model's own layout, loadable by whatever loads the model itself.

    `base_model_dir` is the published checkpoints/base, which stores that layout. Replaces `out_dir` atomically; on an
    object store `out_dir` is complete once it has a COMMIT.
    """
    scratch = scratch_of(out_dir)
    writing = scratch.rstrip("/") + ".writing"
    shutil.rmtree(writing, ignore_errors=True)
    with (
        plain_weights(weights_dir) as version,
        plain_files(base_model_dir) as base,
        storage_errors(writing, "write"),
    ):
        os.makedirs(writing)
        write_own_layout(read_layout(base), version, base, writing)
    shutil.rmtree(scratch, ignore_errors=True)
    os.replace(writing, scratch)
    if is_address(out_dir):
        place_of(out_dir).delete()
        upload(out_dir)
        place_of(out_dir).commit()


def read_layout(base_dir: str) -> OwnLayout:
    """Reads layout.json of the published base."""
    with open(os.path.join(base_dir, LAYOUT), encoding="utf-8") as file:
        return OwnLayout.from_json(json.load(file))


def load_trainable(weights_dir: str, base_dir: str, dtype: Any, **options: Any) -> Any:
    """A published version with the structure of the target's own model: embeddings and head are tied again if it ties
    them.

    Raises RunDirError if the version is incomplete.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(weights_dir)
    config.tie_word_embeddings = read_layout(base_dir).tied
    # The published copies are equal, so loading ties them: transformers unties only those that differ.
    return load_model(weights_dir, dtype=dtype, config=config, **options)


def unties(network: Any) -> bool:
    """Whether the engine layout has a separate head although the model itself ties it."""
    return is_tied(network) and takes_own_head(architecture_of(network))


def architecture_of(network: Any) -> str:
    names = network.config.architectures
    return str(names[0]) if names else type(network).__name__


def write_weights(
    network: Any, files: Mapping[str, bytes], state: dict[str, Any], weights_dir: str, dtype: Any
) -> None:
    """Writes `state` (full, on any device) in engine layout, floating-point tensors as `dtype`, with these files next
    to it."""
    from transformers.core_model_loading import revert_weight_conversion

    os.makedirs(weights_dir, exist_ok=True)
    state = {
        name: t.detach().to("cpu", dtype) if t.is_floating_point() else t.detach().cpu() for name, t in state.items()
    }
    untie = unties(network)
    for head, embedding in dict(network.all_tied_weights_keys).items():
        if untie:
            state[head] = state[embedding].clone()
        else:
            state.pop(head, None)
    write_tensors(revert_weight_conversion(network, state), weights_dir)
    write_small_files(files, weights_dir)


def files_of_version(weights_dir: str) -> dict[str, bytes]:
    """The files other than tensors in a published version; the next version gets the same."""
    return small_files(weights_dir)


def _check_tokenizer(tokenizer: Any, network: Any, folder: str) -> None:
    num_rows = network.get_input_embeddings().weight.shape[0]
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    named = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if not isinstance(token, list)}
    template = tokenizer.chat_template
    written = template if isinstance(template, str) else json.dumps(template, ensure_ascii=False)
    tokens = tokens_without_row(tokenizer.get_vocab(), special, written, named, num_rows)
    check_vocabulary(tokens, num_rows, "target.model", folder)


def probe_ids(encoder: Encoder) -> tuple[tuple[int, ...], ...]:
    """The probe's token sequences for this target: exchanges as training encodes them."""
    return probe_token_ids(encoder.exchange_ids, PROBE_WINDOW)


def measure_probe(model: Any, token_ids: Sequence[Sequence[int]], weights_version: int, device: Any) -> Probe:
    """The model's own log-probabilities on the probe sequences."""
    from bohdi_ray.training.objectives.logits import token_logprobs

    logprobs = [tuple(token_logprobs(model, list(ids), device)) for ids in token_ids]
    return Probe(weights_version, tuple(tuple(ids) for ids in token_ids), tuple(logprobs))


def full_state(engine: Any, stage: int) -> dict[str, Any] | None:
    """All weights of a DeepSpeed engine on rank 0 (None elsewhere under ZeRO-3, where every rank must call)."""
    if stage == 3:
        gather: Callable[[], dict[str, Any] | None] = engine._zero3_consolidated_16bit_state_dict
        return gather()
    return engine.module.state_dict()


def stored_dtype(weights_dir: str) -> Any:
    """Number format of the published weights, which every version keeps."""
    import torch
    from transformers import AutoConfig

    dtype = AutoConfig.from_pretrained(weights_dir).dtype
    return dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype or "bfloat16").removeprefix("torch."))
