"""Probe prompts: how an engine proves that it serves the weights the trainer published.

Owns `probe.json`, its token sequences and the comparison. The trainer writes one beside every published weights folder
(its own log-probabilities under those weights); after a reload or a start the engine scores the same tokens and
`compare` decides. Pure: no torch, no vllm. It never loads weights and never says what to do about a mismatch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bohdi_ray.errors import ConfigError

PROBE_FILE = "probe.json"
MAX_PROBE_TOKENS = 96  # per sequence
# Question and answer as in training rows, so that what training changes shows up here.
PROBE_TURNS = (
    ("Why does a straight stick look bent in water?", "Light travels more slowly in water than in air, so it bends."),
    ("Write a function that adds two numbers.", "def add(a, b):\n    return a + b"),
    ("Compare tea and coffee in a small table.", "| drink | caffeine |\n|---|---|\n| tea | less |\n| coffee | more |"),
    ("What is 17 times 6? Solve it step by step.", "First 10 times 6 is 60, then 7 times 6 is 42, together 102."),
    ("How did the printing press change religion?", "Books became cheap, so people read the texts for themselves."),
    ("My flight was cancelled. What should I do?", "Ask the airline for another flight or your money back."),
)
# How many standard errors the trainer's own change must stand out by before old and new weights can be told apart.
CLEARLY = 6.0
# Of the way from the old to the new weights, what an engine must have gone, give or take so many standard errors: less
# is a reload that left some of its layers as they were.
WHOLE, GIVE_OR_TAKE = 0.9, 4.0


@dataclass(frozen=True)
class Probe:
    """Token sequences and log-probabilities: `logprobs[i][j]` is that of `token_ids[i][j + 1]`."""

    weights_version: int
    token_ids: tuple[tuple[int, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        lengths = [len(tokens) - 1 for tokens in self.token_ids]
        if lengths != [len(row) for row in self.logprobs]:
            raise ValueError("a probe needs one log-probability for every token but the first of each sequence")


@dataclass(frozen=True)
class ProbeReport:
    """The difference between engine and trainer log-probabilities, nats per token."""

    mean_abs_difference: float
    max_abs_difference: float
    trainer_change: float | None  # mean |new - old| of the trainer's own figures; None without an older probe
    progress: float | None  # 0: the engine sits at the old weights, 1: at the new; None if they cannot be told apart
    failure: str | None  # why these are not the weights asked for; None means proved


def probe_token_ids(encode_turns: Callable[[str, str], Sequence[int]], window: int) -> tuple[tuple[int, ...], ...]:
    """The probe sequences for a tokenizer. `encode_turns(question, answer)` gives the ids of one templated exchange."""
    longest = min(MAX_PROBE_TOKENS, window - 1)
    return tuple(tuple(encode_turns(question, answer))[:longest] for question, answer in PROBE_TURNS)


def write_probe(path: Path | str, probe: Probe) -> None:
    """Write `probe.json`."""
    content = {"weights_version": probe.weights_version, "token_ids": probe.token_ids, "logprobs": probe.logprobs}
    Path(path).write_text(json.dumps(content) + "\n")


def read_probe(path: Path | str) -> Probe:
    """Read `probe.json`. Raises ConfigError if it is not a valid probe."""
    try:
        content: dict[str, Any] = json.loads(Path(path).read_text())
        return Probe(
            weights_version=int(content["weights_version"]),
            token_ids=tuple(tuple(int(token) for token in row) for row in content["token_ids"]),
            logprobs=tuple(tuple(float(value) for value in row) for row in content["logprobs"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "probe.json", str(path), f"cannot be read ({error})", "Publish these weights again; every version has one."
        ) from error


def compare(engine: Sequence[Sequence[float]], new: Probe, old: Probe | None, tolerance: float) -> ProbeReport:
    """Does an engine with log-probabilities `engine` on `new.token_ids` serve the weights of `new`?

    Two rules. Within `tolerance` of the trainer on average; and, where `old` has the same sequences and the trainer's
    change from old to new stands out of the numerical noise, all the way from the old to the new. The second finds a
    reload that silently did nothing, or left some layers out, when training moved the weights by less than the
    tolerance. The way gone is the projection of (engine - old) on (new - old), so that only noise along the change
    counts.
    """
    served, wanted = _flat(engine), _flat(new.logprobs)
    if len(served) != len(wanted):
        raise ValueError(f"{len(served)} log-probabilities for {len(wanted)} probe tokens")
    distances = [abs(s - w) for s, w in zip(served, wanted, strict=True)]
    mean = sum(distances) / len(distances)
    change, progress, error = None, None, 0.0
    if old is not None and old.token_ids == new.token_ids:
        before = _flat(old.logprobs)
        change = sum(abs(w - b) for w, b in zip(wanted, before, strict=True)) / len(wanted)
        progress, error = _progress(served, wanted, before)
    failure = None
    if not math.isfinite(mean) or mean > tolerance:
        failure = f"log-probabilities differ from the trainer's by {mean:.4f} nats per token, more than {tolerance}"
    elif progress is not None and progress < 0.5:
        failure = f"log-probabilities are nearer to the version before (progress {progress:.2f} of 1)"
    elif progress is not None and progress < min(WHOLE, 1 - GIVE_OR_TAKE * error):
        failure = f"some layers seem to be as in the version before (progress {progress:.2f} of 1)"
    return ProbeReport(mean, max(distances), change, progress, failure)


def _flat(rows: Sequence[Sequence[float]]) -> list[float]:
    return [value for row in rows for value in row]


def _progress(served: list[float], wanted: list[float], before: list[float]) -> tuple[float | None, float]:
    """The fraction of the change from old to new that the engine shows, and its standard error; None if the change is
    within the noise."""
    change = [w - b for w, b in zip(wanted, before, strict=True)]
    change_square = sum(c * c for c in change)
    if change_square == 0:
        return None, 0.0
    to_new = sum((s - w) ** 2 for s, w in zip(served, wanted, strict=True))
    to_old = sum((s - b) ** 2 for s, b in zip(served, before, strict=True))
    noise = math.sqrt(min(to_new, to_old) / len(served))  # per token, nats
    if not math.isfinite(noise) or math.sqrt(change_square) < CLEARLY * noise:
        return None, 0.0
    gone = sum((s - b) * c for s, b, c in zip(served, before, change, strict=True)) / change_square
    return gone, noise / math.sqrt(change_square)
