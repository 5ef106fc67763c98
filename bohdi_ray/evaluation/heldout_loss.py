"""The loss of any weights version on held-out samples, and what it has forgotten. Runs in a Ray task; uses the same
encoding and loss as training.

Called by the driver at the end of a run, for versions it wants to compare, over one set of rows. Measures published
weights as an engine would serve them; never trains and never changes a folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bohdi_ray.config import FusionConfig
from bohdi_ray.evaluation.sure_tokens import NextTokens, next_tokens, sure_and_lost
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


@dataclass(frozen=True, slots=True)
class FinalFigures:
    """Of all versions, as the end of a run measures them."""

    losses: dict[int, float] = field(default_factory=dict)  # held-out loss by version, without those of no row
    num_sure: int = 0  # places of the fixed text at which version 0 is sure (sure_tokens.py)
    num_lost: dict[int, int] = field(default_factory=dict)  # of these, by version


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version's network and tokenizer, on the device where it is measured."""

    network: Any
    tokenizer: Any
    device: str


def loaded(weights_dir: str, config: FusionConfig) -> Loaded:
    """Published weights in the number format in which an engine runs them: the stored one, or float32 on a CPU without
    bfloat16 instructions."""
    import torch

    from bohdi_ray.training.weights.versions import load_model, load_tokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = "auto" if device == "cuda" or computes_bfloat16() else torch.float32
    attention, trusted = config.training.attn_implementation, config.target.trust_remote_code
    model = load_model(weights_dir, dtype, attn_implementation=attention, trust_remote_code=trusted)
    return Loaded(model.to(device).eval(), load_tokenizer(weights_dir), device)


def heldout_loss(version: Loaded, examples: Sequence[Example], config: FusionConfig) -> HeldoutLoss:
    """Loss of a version on completions."""
    import torch

    from bohdi_ray.training.batches.batches import micro_batches
    from bohdi_ray.training.feed.encoder import encoder_of
    from bohdi_ray.training.objectives import OBJECTIVES
    from bohdi_ray.training.objectives.logits import to_tensors
    from bohdi_ray.training.objectives.objective import encode_all

    likelihood = OBJECTIVES["sft"]
    encoded, rejected = encode_all(likelihood, encoder_of(config, version.tokenizer), examples)
    losses: dict[str, tuple[float, int]] = {}
    with torch.no_grad():
        for batch in micro_batches(encoded, ROWS_AT_ONCE, packing=False, max_length=config.training.max_length):
            sums = likelihood.loss(version.network, to_tensors(batch, version.device), None).measured.tolist()
            for example, loss_sum in zip(batch.examples, sums, strict=True):
                losses[example.example_id] = (loss_sum, likelihood.weight(example))
    num_tokens = sum(tokens for _, tokens in losses.values())
    total = sum(loss for loss, _ in losses.values())
    return HeldoutLoss(total / num_tokens if num_tokens else None, num_tokens, losses, len(rejected))


def final_figures(weights_dirs: Mapping[int, str], examples: Sequence[Example], config: FusionConfig) -> FinalFigures:
    """The figures of several versions on the same completions, one after another; version 0 is among them. Without
    completions only the first and the newest version are looked at."""
    losses: dict[int, float] = {}
    said: dict[int, NextTokens] = {}
    ends = (0, max(weights_dirs))
    for number, folder in weights_dirs.items():
        if not examples and number not in ends:
            continue
        with plain_weights(folder) as here:
            version = loaded(here, config)
            said[number] = next_tokens(version.network, version.tokenizer, version.device)
            if examples and (loss := heldout_loss(version, examples, config).loss) is not None:
                losses[number] = loss
    counts = {number: sure_and_lost(said[0], tokens) for number, tokens in said.items()}
    return FinalFigures(losses, counts[0][0], {number: lost for number, (_, lost) in counts.items()})
