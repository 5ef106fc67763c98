"""How much of what the target was sure of before the fusion it still says: forgetting, seen without any data set.

A fixed text of common knowledge, in which the target as it was gives one next token at least as much probability as
all others together at many places. Where another version's most likely token is another one, that place counts as
lost. Whether the token is right plays no part: the question is whether the fusion left alone what was settled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

SURE = 0.5
TEXT = Path(__file__).with_name("common_knowledge.txt")
LINES_AT_ONCE = 10  # a passage


@dataclass(frozen=True, slots=True)
class NextTokens:
    """The most likely next token and its probability at every place of the text, in order."""

    tokens: tuple[int, ...]
    probabilities: tuple[float, ...]


@cache
def passages() -> tuple[str, ...]:
    """The text in pieces, each read by itself."""
    lines = TEXT.read_text("utf-8").splitlines()
    return tuple("\n".join(lines[i : i + LINES_AT_ONCE]) for i in range(0, len(lines), LINES_AT_ONCE))


def next_tokens(model: Any, tokenizer: Any, device: str) -> NextTokens:
    """What `model` says at every place of the text."""
    import torch

    tokens: list[int] = []
    probabilities: list[float] = []
    for passage in passages():
        ids = tokenizer.encode(passage)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids], device=device)).logits[0].float()
        best = torch.softmax(logits, dim=-1).max(dim=-1)
        tokens += best.indices.tolist()
        probabilities += best.values.tolist()
    return NextTokens(tuple(tokens), tuple(probabilities))


def sure_and_lost(before: NextTokens, after: NextTokens) -> tuple[int, int]:
    """At how many places `before` was sure, and at how many of these `after` says another token."""
    sure = [i for i, probability in enumerate(before.probabilities) if probability >= SURE]
    return len(sure), sum(before.tokens[i] != after.tokens[i] for i in sure)
