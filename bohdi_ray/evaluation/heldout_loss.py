"""The loss of any weights version on held-out samples. Runs in a Ray task; encodes and measures as training does.

Called by the driver at the end of a run, for versions it wants to compare, over one set of rows. Measures published
weights as an engine would serve them; never trains and never changes a folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bohdi_ray.config import TrainingConfig
from bohdi_ray.placement.on_cpu import computes_bfloat16
from bohdi_ray.records import TrainingRow
from bohdi_ray.run.node_files import plain_weights

ROWS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class HeldoutLoss:
    """Token-weighted loss: natural log, per answer token over the whole set."""

    loss: float | None  # None when no row could be measured
    num_tokens: int
    rows: dict[str, tuple[float, int]]  # by sample id: loss sum, answer tokens
    num_rejected: int  # rows that cannot be encoded, too long ones for example


def heldout_loss(
    weights_dir: str,
    rows: Sequence[TrainingRow],
    system_prompt: str | None,
    training: TrainingConfig,
    trust_remote_code: bool = False,
    template_kwargs: Mapping[str, Any] | None = None,
) -> HeldoutLoss:
    """Loss of the published weights in `weights_dir` on `rows`, in the format they are stored in, or in float32 on a
    CPU without instructions for bfloat16, as an engine has them there."""
    import torch

    from bohdi_ray.training.batches.encoding import Encoder, micro_batches
    from bohdi_ray.training.objectives import sft, to_tensors
    from bohdi_ray.training.weights.versions import load_model, load_tokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = load_tokenizer(weights_dir)
    encoder = Encoder(tokenizer, system_prompt, training.max_length, template_kwargs, training.reasoning)
    encoded, rejected = encoder.encode_all(rows)
    attention = training.attn_implementation
    dtype = "auto" if device == "cuda" or computes_bfloat16() else torch.float32
    model = load_model(weights_dir, dtype, attn_implementation=attention, trust_remote_code=trust_remote_code)
    model = model.to(device).eval()
    losses: dict[str, tuple[float, int]] = {}
    with torch.no_grad():
        for batch in micro_batches(encoded, ROWS_AT_ONCE, packing=False, max_length=training.max_length):
            sums = sft(model, to_tensors(batch, device)).row_loss_sums.tolist()
            for row, loss_sum in zip(batch.rows, sums, strict=True):
                losses[rows[row.index].sample_id] = (loss_sum, row.num_answer_tokens)
    num_tokens = sum(tokens for _, tokens in losses.values())
    total = sum(loss for loss, _ in losses.values())
    return HeldoutLoss(total / num_tokens if num_tokens else None, num_tokens, losses, len(rejected))


def compare_versions(
    weights_dirs: Mapping[int, str],
    rows: Sequence[TrainingRow],
    system_prompt: str | None,
    training: TrainingConfig,
    trust_remote_code: bool = False,
    template_kwargs: Mapping[str, Any] | None = None,
) -> dict[int, HeldoutLoss]:
    """`heldout_loss` of several versions over the same rows, one after another."""
    losses = {}
    for version, folder in weights_dirs.items():
        with plain_weights(folder) as here:
            losses[version] = heldout_loss(here, rows, system_prompt, training, trust_remote_code, template_kwargs)
    return losses
