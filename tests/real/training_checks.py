"""What only a rank under DeepSpeed can show, run as a program by test_training_checks.py.

    training_checks.py RANK WORLD_SIZE PORT FOLDER CHECK...
FOLDER holds `model` and `base`, which was published from it, and takes what the checks write; rank 0 writes
FOLDER/<check>.json.
"""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

from training_support import encoded, process_group, some_rows, tiny_config


def learner_of(
    folder: Path, zero: dict, weights: Path | None = None, optimizer_dir: Path | None = None, **training: Any
):
    from bohdi_ray.training.learner import Learner

    fields = {"gradient_clipping": 0.0, "deepspeed": {"zero_optimization": zero}, "reset_optimizer": True}
    config = tiny_config(folder / "model", **fields | training)
    base = folder / "base"
    return Learner(config, str(weights or base / "weights"), str(base), "cpu", optimizer_dir and str(optimizer_dir))


def held_bytes() -> int:
    """Bytes of all tensors that are alive, each storage once."""
    import torch

    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def moments(folder: Path, rank: int, world_size: int) -> list[dict]:
    """Per ZeRO stage: bytes per parameter held before the steps of two rounds, and how far the steps after a reset are
    from those of a new AdamW, by hand from gradients and masters; then whether a checkpoint made after it loads."""
    from bohdi_ray.training.feed.steps import share_of_rank

    results = []
    # A bucket as large as the model: DeepSpeed's own default is 2 GB of memory that no tiny model fills.
    zeros = [{"stage": stage, "reduce_bucket_size": 500_000} for stage in (1, 2, 3)]
    cases = [(zero, "bfloat16") for zero in zeros]
    if world_size > 1:  # the long test; offloading needs a kernel that takes a minute to compile
        cases += [(zero, "float32") for zero in zeros]
        cases.append((zeros[1] | {"offload_optimizer": {"device": "cpu"}}, "bfloat16"))
    rows = [share_of_rank(some_rows(round, 4), world_size, rank) for round in range(3)]
    kept_alive = []  # nothing of another case may be freed between two looks
    for number, (zero, dtype) in enumerate(cases):
        before = held_bytes()
        learner = learner_of(folder, zero, dtype=dtype)
        kept_alive.append(learner)
        count = sum(getattr(p, "ds_numel", p.numel()) for p in learner._engine.module.parameters())
        held = []
        for round in range(2):
            learner.reset_optimizer()
            held.append((held_bytes() - before) / count)
            learner.step(encoded(learner, rows[round]))
        learner.reset_optimizer()
        result: dict[str, Any] = {"zero": zero, "dtype": dtype, "held": held}
        result["wrong"] = steps_from_new_moments(learner, rows[:2])
        result["loads"] = loads_again(folder / f"saved-{number}", learner, zero, dtype, rows[2], rank)
        results.append(result)
    return results


def steps_from_new_moments(learner: Any, rounds: list) -> float:
    """Largest deviation of two steps' updates from AdamW's with moments of zero, in learning rates."""
    import torch
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_grad, safe_get_full_optimizer_state

    engine, gradients = learner._engine, {}
    parameters = dict(engine.module.named_parameters())
    apply_step = engine.step

    def masters() -> dict:
        return {name: safe_get_full_fp32_param(p).float().clone() for name, p in parameters.items()}

    def step() -> None:
        gradients.update({name: safe_get_full_grad(p).float().clone() for name, p in parameters.items()})
        apply_step()

    if safe_get_full_fp32_param(next(iter(parameters.values()))) is None:
        return 0.0
    engine.step = step
    first = second = None
    worst, (b1, b2) = 0.0, (0.9, 0.999)
    for number, rows in enumerate(rounds, start=1):
        before = masters()
        result = learner.step(encoded(learner, rows))
        after = masters()
        if first is None:
            first = {name: torch.zeros_like(g) for name, g in gradients.items()}
            second = {name: torch.zeros_like(g) for name, g in gradients.items()}
        for name, gradient in gradients.items():
            first[name].mul_(b1).add_(gradient, alpha=1 - b1)
            second[name].mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
            update = (first[name] / (1 - b1**number)) / ((second[name] / (1 - b2**number)).sqrt() + 1e-8)
            seen = (before[name] - after[name]) / result.learning_rate
            clear = gradient.abs() > 1e-5
            if clear.any():
                worst = max(worst, float((seen - update)[clear].abs().max()))
            kept = safe_get_full_optimizer_state(parameters[name], "exp_avg").float()
            worst = max(worst, float((kept - first[name]).abs().max() / (first[name].abs().max() + 1e-12)))
    engine.step = apply_step
    return worst


def loads_again(saved: Path, learner: Any, zero: dict, dtype: str, rows: list, rank: int) -> float:
    """A learner started from a checkpoint that was made after a reset: how far its next step is from this one's."""
    import torch
    import torch.distributed as dist
    from deepspeed.utils import safe_get_full_fp32_param

    learner.save_weights(str(saved / "weights"), rank)
    learner.save_optimizer(str(saved / "optimizer"))
    dist.barrier()
    other = learner_of(saved.parent, zero, saved / "weights", saved / "optimizer", dtype=dtype)
    learner.step(encoded(learner, rows))
    other.step(encoded(other, rows))
    pairs = zip(learner._engine.module.parameters(), other._engine.module.parameters(), strict=True)
    return max(float(torch.dist(safe_get_full_fp32_param(a), safe_get_full_fp32_param(b))) for a, b in pairs)


def packing(folder: Path, rank: int, world_size: int) -> dict:
    """Row losses with an attention that, as transformers' FlashAttention, reads packs only in a batch of one line."""
    import torch
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    def one_line(module, query, key, value, attention_mask, scaling=None, position_ids=None, **_):
        repeat = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
        scores = query @ key.transpose(2, 3) * scaling
        length = query.shape[2]
        seen = torch.ones(length, length, dtype=torch.bool).tril()
        if query.shape[0] == 1:
            pack = (position_ids[0] == 0).cumsum(0)
            seen = seen & (pack[:, None] == pack[None, :])
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    AttentionInterface.register("one_line", one_line)
    AttentionMaskInterface.register("one_line", lambda *_, **__: None)
    rows = some_rows(0, 7)
    losses, layouts = {}, {}
    for name, training in {
        "alone": {"packing": False, "micro_batch_size": 1},
        "one line": {"micro_batch_size": 1, "attn_implementation": "one_line"},
        "two lines": {"micro_batch_size": 2, "attn_implementation": "one_line"},
        "sdpa": {"micro_batch_size": 2},
    }.items():
        learner = learner_of(folder, {"stage": 2}, dtype="float32", **training)
        losses[name] = {row.example_id: row.loss_sum for row in learner.row_losses(encoded(learner, rows))}
        layouts[name] = [learner._layout.num_lines, learner._layout.packing, learner._layout.capacity]
    return {"losses": losses, "layouts": layouts}


def families(folder: Path, rank: int, world_size: int) -> dict:
    """By family of FOLDER/families: losses of this rank's rows together and each alone, of three steps under ZeRO-2
    and of a first one under ZeRO-3."""
    from bohdi_ray.training.feed.steps import share_of_rank

    rows = share_of_rank(some_rows(0, 3 * world_size), world_size, rank)
    results = {}
    for here in sorted((folder / "families").iterdir()):
        learner = learner_of(here, {"stage": 2}, dtype="float32", max_length=256)
        result: dict[str, Any] = {"packing": learner.packing}
        result["together"] = sorted(row.loss_sum for row in learner.row_losses(encoded(learner, rows)))
        result["alone"] = sorted(learner.row_losses([one])[0].loss_sum for one in encoded(learner, rows))
        result["steps"] = [learner.step(encoded(learner, rows)).loss for _ in range(3)]
        learner = learner_of(here, {"stage": 3}, dtype="float32", max_length=256)
        result["stage 3"] = learner.step(encoded(learner, rows)).loss
        results[here.name] = result
    return results


def start_probe(folder: Path, rank: int, world_size: int) -> dict:
    """What a learner says to the published probe, and to one that something else computed, by ZeRO stage."""
    from dataclasses import replace

    from bohdi_ray.engines.probe import read_probe
    from bohdi_ray.errors import ConfigError

    published = read_probe(folder / "base" / "probe.json")
    other = replace(published, logprobs=tuple(tuple(v - 0.3 for v in row) for row in published.logprobs))
    said = {}
    for stage in (2, 3):
        learner = learner_of(folder, {"stage": stage}, dtype="bfloat16")
        learner.check_start(published, 0.15)
        try:
            learner.check_start(other, 0.15)
        except ConfigError as error:
            said[str(stage)] = [error.field, str(error)]
    return said


SMALL = {
    "vocab_size": 64,
    "hidden_size": 72,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
}


def small_models() -> dict[str, tuple[str, dict]]:
    """Rotary embeddings of every type, and families with other buffers, by name: configuration class and settings."""

    def rope(kind: str, **settings: Any) -> dict:
        return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **settings}}

    long = {"factor": 4.0, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    heads = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16}
    return {
        "default": ("LlamaConfig", {}),
        "llama3": (
            "LlamaConfig",
            rope(
                "llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=256,
            ),
        ),
        "yarn": ("LlamaConfig", rope("yarn", factor=4.0, original_max_position_embeddings=128)),
        "linear": ("LlamaConfig", rope("linear", factor=4.0)),
        "dynamic": ("LlamaConfig", rope("dynamic", factor=4.0)),
        "longrope": (
            "Phi3Config",
            {"pad_token_id": 0, "hidden_size": 64} | rope("longrope", original_max_position_embeddings=128, **long),
        ),
        "gemma2": ("Gemma2Config", {}),
        "gemma3": ("Gemma3TextConfig", {}),
        "gpt_oss": ("GptOssConfig", {"num_local_experts": 2, "num_experts_per_tok": 1}),
        "qwen3_5": ("Qwen3_5TextConfig", heads | {"linear_value_head_dim": 16}),
    }


def buffers(folder: Path, rank: int, world_size: int) -> dict:
    """By model: its buffers without a place in checkpoints, and those of them that are not as in a plainly loaded one,
    as ZeRO-3 builds the model and after they were restored."""
    import torch
    import transformers
    from transformers.integrations import HfDeepSpeedConfig

    from bohdi_ray.training.weights.buffers import restore_buffers
    from bohdi_ray.training.zero.kernels import prepare_kernels

    prepare_kernels(offload_optimizer=False)
    zero3 = {"zero_optimization": {"stage": 3}, "bf16": {"enabled": True}, "train_micro_batch_size_per_gpu": 1}
    results = {}
    for name, (config_class, settings) in small_models().items():
        config = getattr(transformers, config_class)(**SMALL | settings)
        saved = str(folder / f"small-{name}")
        made = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        made.save_pretrained(saved)
        plain = dict(type(made).from_pretrained(saved, dtype=torch.bfloat16).named_non_persistent_buffers())
        keep_alive = HfDeepSpeedConfig(zero3)
        partitioned = type(made).from_pretrained(saved, dtype=torch.bfloat16)
        del keep_alive
        wrong = [unlike(plain, partitioned)]
        restore_buffers(partitioned, torch.bfloat16)
        results[name] = [sorted(plain), *wrong, unlike(plain, partitioned)]
    return results


def unlike(wanted: dict, model: Any) -> list[str]:
    """Names of the buffers of `model` that are missing or differ from the wanted ones in format or in any bit."""
    import torch

    there = dict(model.named_non_persistent_buffers())
    equal = [n for n, b in wanted.items() if n in there and there[n].dtype == b.dtype and torch.equal(there[n], b)]
    return sorted({*wanted, *there} - {*equal})


CHECKS = {check.__name__: check for check in (moments, packing, families, start_probe, buffers)}


def main() -> None:
    with process_group() as (rank, world_size, (folder, *checks)):
        for name in checks:
            result = CHECKS[name](Path(folder), rank, world_size)
            if rank == 0:
                (Path(folder) / f"{name}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
