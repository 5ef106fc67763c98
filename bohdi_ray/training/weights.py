"""Weights folders: version 0 published from the target's own model, versions of the trainer, RUN/target for users.

Called inside Ray tasks (`publish_base`, `export_target`) and by rank 0 of the train workers (`write_weights`). Imports
torch and transformers inside functions. An *engine layout* folder is what vLLM starts on and reloads from: safetensors
with the LM head untied (docs/design.md says why), tokenizer and chat template. It never decides which version is
served.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

from bohdi_ray.addresses import is_address
from bohdi_ray.config import VllmModel
from bohdi_ray.engines.probe import PROBE_FILE, Probe, probe_token_ids, write_probe
from bohdi_ray.storage.node_files import plain_files, plain_weights, scratch_of, upload
from bohdi_ray.storage.places import place_of, storage_errors
from bohdi_ray.training.attention import attention_for
from bohdi_ray.training.checkpoints import commit_folder, is_committed, start_folder, write_text
from bohdi_ray.training.encode import Encoder

WEIGHTS, LAYOUT = "weights", "layout.json"
# vLLM's classes for these read the logits off the embedding itself: there is no head that could be untied, none is
# packed and so none goes stale.
HEADLESS = frozenset({"Gemma2ForCausalLM", "Gemma3ForCausalLM", "CohereForCausalLM", "Cohere2ForCausalLM"})
PROBE_WINDOW = 256  # tokens; far below any model's window


def load_model(folder: str, dtype: Any = "auto", attn_implementation: str | None = None, **options: Any) -> Any:
    """The causal language model in a folder or hub repository, in evaluation mode, with its family's attention."""
    from transformers import AutoConfig, AutoModelForCausalLM

    known = {key: options[key] for key in ("revision", "trust_remote_code") if key in options}
    config = options.get("config") or AutoConfig.from_pretrained(folder, **known)
    options["attn_implementation"] = attention_for(attn_implementation, config.to_dict()).name
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, **options)


def load_tokenizer(folder: str, **options: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, **options)


def publish_base(model: VllmModel, out_dir: str) -> None:
    """Writes version 0 into `out_dir`: weights/ in engine layout, probe.json, layout.json, COMMIT last. Idempotent."""
    if is_committed(out_dir):
        return
    source = os.path.expanduser(model.model)
    options: dict[str, Any] = {"trust_remote_code": model.trust_remote_code}
    if model.revision is not None:
        options["revision"] = model.revision
    tokenizer = load_tokenizer(source, **options)
    network = load_model(source, **options)
    start_folder(out_dir)
    scratch = scratch_of(out_dir)
    weights_dir = os.path.join(scratch, WEIGHTS)
    layout = {"tied": is_tied(network)}
    write_weights(network, tokenizer, network.state_dict(), weights_dir, network.dtype)
    encoder = Encoder(tokenizer, model.system_prompt, max_length=PROBE_WINDOW)
    write_probe(os.path.join(scratch, PROBE_FILE), measure_probe(network, probe_ids(encoder), 0, "cpu"))
    write_text(os.path.join(scratch, LAYOUT), json.dumps(layout))
    commit_folder(out_dir)


def export_target(weights_dir: str, base_model_dir: str, out_dir: str) -> None:
    """Writes a version in the model's own layout: one copy of tied embeddings, loadable by transformers and vLLM.

    `base_model_dir` is the published checkpoints/base, which knows whether the model was tied. Replaces `out_dir` in
    one go; on an object store `out_dir` is complete from its COMMIT on.
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
        load_trainable(version, base, dtype="auto").save_pretrained(writing)
        load_tokenizer(version).save_pretrained(writing)
    shutil.rmtree(scratch, ignore_errors=True)
    os.replace(writing, scratch)
    if is_address(out_dir):
        place_of(out_dir).delete()
        upload(out_dir)
        place_of(out_dir).commit()


def load_trainable(weights_dir: str, base_dir: str, dtype: Any, **options: Any) -> Any:
    """A published version as the model it was: embeddings and head tied again if the target's own model ties them."""
    from transformers import AutoConfig

    with open(os.path.join(base_dir, LAYOUT), encoding="utf-8") as file:
        tied = json.load(file)["tied"]
    config = AutoConfig.from_pretrained(weights_dir)
    config.tie_word_embeddings = tied
    # The published copies are equal, so loading ties them: transformers unties only those that differ.
    return load_model(weights_dir, dtype=dtype, config=config, **options)


def is_tied(network: Any) -> bool:
    """Whether head and embedding are one tensor."""
    head = network.get_output_embeddings()
    return bool(network.config.tie_word_embeddings) and head is not None


def write_weights(network: Any, tokenizer: Any, state: dict[str, Any], weights_dir: str, dtype: Any) -> None:
    """Engine layout of `state` (full, on any device), floating-point tensors as `dtype`."""
    from transformers.core_model_loading import revert_weight_conversion

    os.makedirs(weights_dir, exist_ok=True)
    state = {
        name: t.detach().to("cpu", dtype) if t.is_floating_point() else t.detach().cpu() for name, t in state.items()
    }
    architecture = network.config.architectures[0] if network.config.architectures else type(network).__name__
    untie = is_tied(network) and architecture not in HEADLESS
    for head, embedding in dict(network.all_tied_weights_keys).items():
        if untie:
            state[head] = state[embedding].clone()
        else:
            state.pop(head, None)
    state = revert_weight_conversion(network, state)
    _write_safetensors(state, weights_dir)
    config = type(network.config).from_dict(network.config.to_dict())
    config.architectures = [architecture]
    config.dtype = dtype
    config.use_cache = True
    if untie:
        config.tie_word_embeddings = False
    config.save_pretrained(weights_dir)
    if network.can_generate() and network.generation_config is not None:
        network.generation_config.save_pretrained(weights_dir)
    tokenizer.save_pretrained(weights_dir)


def _write_safetensors(state: dict[str, Any], weights_dir: str) -> None:
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    split = split_torch_state_dict_into_shards(state, max_shard_size="5GB")
    for name, tensors in split.filename_to_tensors.items():
        shard = {tensor: state[tensor].contiguous() for tensor in tensors}
        save_file(shard, os.path.join(weights_dir, name), metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_text(os.path.join(weights_dir, "model.safetensors.index.json"), json.dumps(index, indent=1))


def probe_ids(encoder: Encoder) -> tuple[tuple[int, ...], ...]:
    """The probe's token sequences for this target: exchanges as training encodes them."""
    return probe_token_ids(encoder.exchange_ids, PROBE_WINDOW)


def measure_probe(model: Any, token_ids: Sequence[Sequence[int]], weights_version: int, device: Any) -> Probe:
    """The model's own log-probabilities on the probe sequences."""
    from bohdi_ray.training.objectives import token_logprobs

    logprobs = [tuple(token_logprobs(model, list(ids), device)) for ids in token_ids]
    return Probe(weights_version, tuple(tuple(ids) for ids in token_ids), tuple(logprobs))


def full_state(engine: Any, stage: int) -> dict[str, Any] | None:
    """All weights of a DeepSpeed engine on rank 0 (None elsewhere under ZeRO-3, where every rank must call)."""
    if stage == 3:
        gather: Callable[[], dict[str, Any] | None] = engine._zero3_consolidated_16bit_state_dict
        return gather()
    return engine.module.state_dict()
