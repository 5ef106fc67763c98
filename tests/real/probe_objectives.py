"""Two objectives for tests: pairs with a reference, and distributions, as files of training/objectives are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bohdi_ray.examples.kinds import Distribution, Example, Preference
from bohdi_ray.examples.store import example_id
from bohdi_ray.training.batches.encoding import EncodedExample, Encoder
from bohdi_ray.training.objectives.objective import ObjectiveOutput

BETA, NUM_CANDIDATES, NUM_TOKENS = 0.5, 400, 200


class Pairs:
    """-log sigmoid(beta * (log-ratio of the chosen less that of the rejected)) a pair, and the chosen's likelihood a
    token."""

    example = Preference
    terms = ("pairs", "tokens")
    reference = "round_start"
    selection = "heldout_wrong_pairs"
    num_forwards = 1

    def encode(self, encoder: Encoder, example: Example) -> EncodedExample | str:
        rows = [encoder.encode(example.question, answer) for answer in (example.chosen, example.rejected)]
        wrong = next((row for row in rows if isinstance(row, str)), None)
        return wrong or EncodedExample(example.example_id, tuple(rows))

    def counts(self, examples: Sequence[EncodedExample]) -> dict[str, int]:
        return {"pairs": len(examples), "tokens": sum(one.rows[0].num_answer_tokens for one in examples)}

    def weight(self, example: EncodedExample) -> int:
        return 1

    def loss(self, model: Any, batch: Any, reference: Any) -> ObjectiveOutput:
        import torch.nn.functional as F

        from bohdi_ray.training.objectives.logits import answer_losses, row_sums

        logprobs = -row_sums(answer_losses(model, batch), batch)
        chosen, rejected = (logprobs - reference).view(-1, 2).unbind(1)
        likelihood = -logprobs.view(-1, 2)[:, 0]
        wrong = (logprobs.view(-1, 2)[:, 0] <= logprobs.view(-1, 2)[:, 1]).float()
        pairs = -F.logsigmoid(BETA * (chosen - rejected)).sum()
        return ObjectiveOutput({"pairs": pairs, "tokens": likelihood.sum()}, wrong.detach())


class Distributions:
    """Cross-entropy with a given distribution at each answer token, over the tokens of its support."""

    example = Distribution
    terms = ("tokens",)
    reference = None
    selection = "heldout_cross_entropy"
    num_forwards = 1

    def encode(self, encoder: Encoder, example: Example) -> EncodedExample | str:
        row = encoder.encode(example.question, example.answer)
        if isinstance(row, str):
            return row
        size = row.num_answer_tokens * example.support_size
        if size * 4 > len(example.support):
            return "distributions_missing"
        return EncodedExample(
            example.example_id, (row,), example.support[: size * 4] + example.probabilities[: size * 2]
        )

    def counts(self, examples: Sequence[EncodedExample]) -> dict[str, int]:
        return {"tokens": sum(one.num_answer_tokens for one in examples)}

    def weight(self, example: EncodedExample) -> int:
        return example.num_answer_tokens

    def loss(self, model: Any, batch: Any, reference: Any) -> ObjectiveOutput:
        import torch

        from bohdi_ray.training.objectives.logits import answer_logits, row_sums

        logits, _ = answer_logits(model, batch)
        ids, shares = [], []
        for example in batch.examples:
            size = example.num_answer_tokens * NUM_CANDIDATES
            ids.append(np.frombuffer(example.payload, "<i4", size).reshape(-1, NUM_CANDIDATES))
            shares.append(np.frombuffer(example.payload, "<f2", size, size * 4).reshape(-1, NUM_CANDIDATES))
        support = torch.tensor(np.concatenate(ids), dtype=torch.int64)
        wanted = torch.tensor(np.concatenate(shares), dtype=torch.float32)
        losses = -(wanted * logits.float().log_softmax(-1).gather(1, support)).sum(1)
        return ObjectiveOutput({"tokens": losses.sum()}, row_sums(losses.detach(), batch))


def pairs(count: int) -> list[Preference]:
    """Pairs of different lengths."""
    return [
        Preference(
            example_id(Preference, 0, 0, i),
            f"What is {i} times {i}?",
            f"It is {i * i}. " * (1 + i % 3),
            "I see. " * (1 + i % 4),
        )
        for i in range(count)
    ]


def distributions(count: int, vocabulary: int) -> list[Distribution]:
    """Distributions over some tokens, more of them than any answer here has."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        support = rng.integers(0, vocabulary, (NUM_TOKENS, NUM_CANDIDATES)).astype("<i4")
        shares = rng.dirichlet(np.ones(NUM_CANDIDATES), NUM_TOKENS).astype("<f2")
        found.append(
            Distribution(
                example_id(Distribution, 0, 0, i),
                f"What is {i}?",
                f"It is {i}, I think. " * 3,
                NUM_CANDIDATES,
                support.tobytes(),
                shares.tobytes(),
            )
        )
    return found
