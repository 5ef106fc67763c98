"""The loss of any weights version on held-out samples. Runs in a Ray task; uses the same encoding and loss as training.

Called by the driver at the end of a run, for versions it wants to compare, over one set of rows. Measures published
weights as an engine would serve them; never trains and never changes a folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bohdi_ray.config import FusionConfig
from bohdi_ray.examples.kinds import Example
from bohdi_ray.placement.on_cpu import computes_bfloat16
from bohdi_ray.run.node_files import plain_weights

ROWS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class HeldoutLoss:
    """Token-weighted loss: natural log, per answer token over the whole set."""

    loss: float | None  # None when no row could be measured
    num_tokens: int
    rows: dict[str, tuple[float, int]]  # by sample id: loss sum, answer tokens
    num_rejected: int  # rows that cannot be encoded, too long ones for example


def heldout_loss(weights_dir: str, examples: Sequence[Example], config: FusionConfig) -> HeldoutLoss:
    """Loss of the published weights in `weights_dir` on completions, in the number format in which an engine runs them:
    the stored one, or float32 on a CPU without bfloat16 instructions."""
    import torch

    from bohdi_ray.training.batches.batches import micro_batches
    from bohdi_ray.training.feed.encoder import encoder_of
    from bohdi_ray.training.objectives import OBJECTIVES
    from bohdi_ray.training.objectives.logits import to_tensors
    from bohdi_ray.training.objectives.objective import encode_all
    from bohdi_ray.training.weights.versions import load_model, load_tokenizer

    training, device = config.training, "cuda" if torch.cuda.is_available() else "cpu"
    encoder = encoder_of(config, load_tokenizer(weights_dir))
    likelihood = OBJECTIVES["sft"]
    encoded, rejected = encode_all(likelihood, encoder, examples)
    dtype = "auto" if device == "cuda" or computes_bfloat16() else torch.float32
    attention, trusted = training.attn_implementation, config.target.trust_remote_code
    model = load_model(weights_dir, dtype, attn_implementation=attention, trust_remote_code=trusted)
    model = model.to(device).eval()
    losses: dict[str, tuple[float, int]] = {}
    with torch.no_grad():
        for batch in micro_batches(encoded, ROWS_AT_ONCE, packing=False, max_length=training.max_length):
            sums = likelihood.loss(model, to_tensors(batch, device), None).measured.tolist()
            for example, loss_sum in zip(batch.examples, sums, strict=True):
                losses[example.example_id] = (loss_sum, likelihood.weight(example))
    num_tokens = sum(tokens for _, tokens in losses.values())
    total = sum(loss for loss, _ in losses.values())
    return HeldoutLoss(total / num_tokens if num_tokens else None, num_tokens, losses, len(rejected))


def compare_versions(
    weights_dirs: Mapping[int, str], examples: Sequence[Example], config: FusionConfig
) -> dict[int, HeldoutLoss]:
    """`heldout_loss` of several versions on the same completions, one after another."""
    losses = {}
    for version, folder in weights_dirs.items():
        with plain_weights(folder) as here:
            losses[version] = heldout_loss(here, examples, config)
    return losses
