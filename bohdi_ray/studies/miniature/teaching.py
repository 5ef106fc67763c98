"""Teaching one model its lessons in plain torch, on one thread, so that the same seed gives the same weights.

`teach` runs in a process of its own (build.py). It writes an ordinary Hugging Face folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bohdi_ray.randomness import derived_seed, generator
from bohdi_ray.records import Role
from bohdi_ray.studies.miniature.curriculum import Lesson
from bohdi_ray.studies.miniature.models import WINDOW, ModelSpec, make_network, make_tokenizer
from bohdi_ray.training.batches.batches import make_batch
from bohdi_ray.training.batches.encoding import EncodedRow, Encoder

ROLE_SHARES: dict[Role, float] = {"answer": 0.7, "question": 0.2, "sprout": 0.1}


@dataclass(frozen=True)
class Teaching:
    """Number of steps and learning rate. AdamW; the rate rises over the first twentieth and falls to a tenth along a
    cosine."""

    num_steps: int
    batch_size: int
    learning_rate: float


def teach(
    spec: ModelSpec,
    lessons: Mapping[Role, list[Lesson]],
    corpus: list[str],
    teaching: Teaching,
    seed: int,
    folder: Path,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Makes, trains and saves one model; reports the loss, nats per token of a completion, four times."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.manual_seed(derived_seed(seed, "weights", spec.name) % 2**63)
    tokenizer = make_tokenizer(spec, corpus)
    network = make_network(spec, tokenizer)
    encoded = {role: _encoded(found, tokenizer) for role, found in lessons.items()}
    rng = generator(seed, "lessons", spec.name)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=teaching.learning_rate, weight_decay=0.0)
    for step in range(teaching.num_steps):
        for group in optimizer.param_groups:
            group["lr"] = teaching.learning_rate * _rate(step, teaching.num_steps)
        loss = _loss(network, _drawn(encoded, teaching.batch_size, rng))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % max(1, teaching.num_steps // 4) == 0:
            say(f"{spec.name} ({spec.architecture}): step {step + 1} of {teaching.num_steps}, loss {loss.item():.3f}")
    network.eval()
    network.generation_config.update(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id
    )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _rate(step: int, num_steps: int) -> float:
    warmup = max(1, num_steps // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.1 + 0.45 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, num_steps - warmup))))


def _encoded(lessons: list[Lesson], tokenizer: Any) -> list[list[EncodedRow]]:
    """For each lesson its completions, encoded as in training of the target."""
    encoder = Encoder(tokenizer, None, WINDOW)
    found = []
    for lesson in lessons:
        rows = [encoder.encode(lesson.prompt, text) for text in lesson.completions]
        usable = [row for row in rows if isinstance(row, EncodedRow)]
        assert len(usable) == len(rows), rows
        found.append(usable)
    return found


def _drawn(encoded: Mapping[Role, list[list[EncodedRow]]], number: int, rng: np.random.Generator) -> list[EncodedRow]:
    roles = list(encoded)
    shares = np.array([ROLE_SHARES[role] for role in roles])
    rows = []
    for role in rng.choice(len(roles), number, p=shares / shares.sum()):
        lessons = encoded[roles[role]]
        completions = lessons[int(rng.integers(len(lessons)))]
        rows.append(completions[int(rng.integers(len(completions)))])
    return rows


def _loss(network: Any, rows: list[EncodedRow]) -> Any:
    """Mean cross-entropy of the completions' tokens."""
    import torch

    batch = make_batch([[row] for row in rows], packing=False)
    ids, labels = torch.tensor(batch.input_ids), torch.tensor(batch.labels)
    logits = network(input_ids=ids, use_cache=False).logits[:, :-1]
    wanted = labels[:, 1:] >= 0
    return torch.nn.functional.cross_entropy(logits[wanted], labels[:, 1:][wanted])
