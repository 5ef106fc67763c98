"""Every family as a target: published, trained by a step, written back in the layout that its publisher uses."""

from __future__ import annotations

import json
import os
import re

import pytest
from target_support import encoded_rows, logits_of, published, trained
from tiny_families import FAMILIES, build_family

from bohdi_ray.engines.chat.hf_tokenizer import load_tokenizer
from bohdi_ray.training.weights.checkpoint_tensors import names_in
from bohdi_ray.training.weights.versions import export_target

INDEPENDENT = True  # each may be in another part of `make test-long`
# Text that the loss must see: the answer as the template writes it, up to the token that ends the turn.
ENDS = {
    **dict.fromkeys(("llama-3.1", "llama-3.2"), "<|eot_id|>"),
    **dict.fromkeys(("mistral-7b-v0.3", "mistral-nemo", "mistral-small-2501", "mistral-small-3.1"), "</s>"),
    **dict.fromkeys(("qwen2.5", "qwen3", "qwen3.5", "qwen2.5-vl", "phi-4", "smollm2", "smollm3"), "<|im_end|>"),
    **dict.fromkeys(("gemma-2", "gemma-3-text", "gemma-3"), "<end_of_turn>"),
    **dict.fromkeys(("granite-3", "granite-4-dense", "granite-4-hybrid"), "<|end_of_text|>"),
    **dict.fromkeys(("olmo-2", "olmo-3", "olmo-3-think"), "<|endoftext|>"),
    **dict.fromkeys(("r1-distill-llama", "r1-distill-qwen"), "<｜end▁of▁sentence｜>"),
    **{"gemma-4": "<turn|>", "phi-3": "<|end|>", "command-r7b": "<|END_OF_TURN_TOKEN|>"},
    **dict.fromkeys(("gpt-oss", "gpt-oss-mxfp4"), "<|return|>"),
    "smolvlm": "<end_of_utterance>",
}
# One of each kind: a plain decoder with scaled positions, Mistral's folder, a wrapper with tied embeddings in the old
# layout, one with positions of images, two frequencies, fused projections and two end tokens, experts, no head in vLLM.
KINDS = ("llama-3.1", "mistral-nemo", "gemma-3", "qwen2.5-vl", "gemma-3-text", "phi-3", "gpt-oss", "command-r7b")


def families():
    for name in FAMILIES:
        yield pytest.param(name, marks=[] if name in KINDS else [pytest.mark.long(3)])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", families())
def test_a_target_of_every_family_trains_and_comes_back_in_its_own_layout(name, tmp_path):
    import torch
    import transformers
    from safetensors import safe_open

    source = build_family(name, tmp_path / "model")
    weights = published(source, tmp_path / "base")
    tokenizer = load_tokenizer(weights)
    row = encoded_rows(weights)[0]
    answer = tokenizer.decode(row.ids[row.num_prompt :])
    assert answer.endswith(f"It is 0, I think.{ENDS[name]}")
    assert answer.count(ENDS[name]) == 1

    model = trained(weights, tmp_path / "base", tmp_path / "round-0")
    out = tmp_path / "target"
    export_target(str(tmp_path / "round-0" / "weights"), str(tmp_path / "base"), str(out))
    kind = getattr(transformers, FAMILIES[name].model_class)
    attention = model.config._attn_implementation
    exported, report = kind.from_pretrained(
        out, dtype=torch.float32, attn_implementation=attention, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ids = list(row.ids) * 4  # longer than a sliding window
    assert torch.equal(logits_of(exported.eval(), ids), logits_of(model, ids))

    def tensors(folder):
        found = {}
        for file in folder.glob("model*.safetensors"):
            with safe_open(file, framework="pt") as stored:
                found |= {key: stored.get_tensor(key) for key in names_in(str(file))}
        return found

    before, after = tensors(source), tensors(out)
    if name == "gpt-oss-mxfp4":  # two tensors of packed experts for one plain one
        assert {re.sub("_(blocks|scales)$", "", key) for key in before} == set(after)
        return
    assert set(before) == set(after)
    kept = {key for key in before if "vision" in key or "visual" in key or "projector" in key or "connector" in key}
    assert all(torch.equal(before[key], after[key]) for key in kept)
    assert any(not torch.equal(before[key], after[key]) for key in set(before) - kept)
    carried = {file.name for file in source.iterdir() if file.is_file() and not left_out(file.name)}
    assert carried <= set(os.listdir(out)) and not any(name.startswith("consolidated") for name in os.listdir(out))
    (tmp_path / "new").touch()
    new = (tmp_path / "new").stat().st_mode
    assert {path.stat().st_mode for path in [*out.iterdir(), *(tmp_path / "base" / "weights").iterdir()]} == {new}
    same_configuration(source, out)


def left_out(name: str) -> bool:
    return name.endswith((".safetensors", ".index.json")) or name.startswith(("consolidated", "params.json"))


def same_configuration(source, out):
    """RUN/target's config.json says all that the model's own says, and both spellings of what has two."""
    own, written = (json.loads((folder / "config.json").read_text()) for folder in (source, out))
    assert {name: written.get(name) for name in own if name != "text_config"} == {
        name: value for name, value in own.items() if name != "text_config"
    }
    text = written.get("text_config", written)
    rope = text["rope_parameters"]
    if all(isinstance(value, dict) for value in rope.values()):
        rope = rope["full_attention"]
    if rope.get("rope_type") != "proportional" and "rope_theta" in rope:
        assert text["rope_theta"] == rope["rope_theta"]
    assert written["dtype"] == written["torch_dtype"] == "bfloat16"
