"""What a scripted trainer tells of its rounds."""

import time
from typing import Any

TOKENS_PER_ROW = 50


def round_metrics(
    round: int, step: int, num_rows: int, seconds: float, rejected: dict[str, int] | None = None
) -> dict[str, Any]:
    """What a trainer tells of a round, as training.tally does."""
    num_tokens = TOKENS_PER_ROW * num_rows
    return {
        "loss": 1.0 / step,
        "heldout_loss": scripted_heldout_loss(round + 1),
        "num_rows": num_rows,
        "num_tokens": num_tokens,
        "rejected_rows": rejected or {},
        "tokens_per_s": num_tokens / seconds if seconds else 0.0,
        "seconds": {"stepping": seconds},
        "committed_at": time.time(),
    }


def scripted_heldout_loss(version: int) -> float:
    return 2.0 / (1 + version)
