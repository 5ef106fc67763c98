"""What each source gave in a round: sums of what harvest tasks noted, and the sentences that tell people. Pure.

Called by the driver for the console and summary.json, by `bohdi status` for what metrics.jsonl has of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from bohdi_ray.records import SourceCounts

ERRORS = ("request_failed", "prompt_too_long", "request_quarantined", "unreadable")  # no matter of a text's quality
MAX_REASONS = 3
MAX_SAID = 160


def summed(parts: Iterable[Mapping[str, SourceCounts]]) -> dict[str, SourceCounts]:
    """One tally a source; of what was said the newest."""
    asked: dict[str, Counter[str]] = {}
    lost: dict[str, Counter[str]] = {}
    said: dict[str, str] = {}
    for part in parts:
        for source, tally in part.items():
            asked.setdefault(source, Counter()).update(tally.asked)
            lost.setdefault(source, Counter()).update(tally.lost)
            if tally.said:
                said[source] = tally.said
    return {s: SourceCounts(dict(asked[s]), dict(lost[s]), said.get(s, "")) for s in asked}


def from_json(value: Any) -> dict[str, SourceCounts]:
    """The tallies of a record of metrics.jsonl; what is not in their form is passed over."""
    tallies = {}
    for source, told in value.items() if isinstance(value, dict) else ():
        if isinstance(told, dict):
            said = told.get("said")
            tallies[str(source)] = SourceCounts(
                _counts(told.get("asked")), _counts(told.get("lost")), said if isinstance(said, str) else ""
            )
    return tallies


def _counts(value: Any) -> dict[str, int]:
    whole = value.items() if isinstance(value, dict) else ()
    return {str(name): n for name, n in whole if isinstance(n, int) and not isinstance(n, bool) and n > 0}


def is_silent(tally: SourceCounts) -> bool:
    """Whether a source gave nothing that could be used: no question, no answer, no label; of a round that asked it for
    names alone, no name."""
    asked, lost = _without_names(tally.asked), _without_names(tally.lost)
    if not asked:
        asked, lost = dict(tally.asked), dict(tally.lost)
    return bool(asked) and sum(lost.values()) >= sum(asked.values())


def _without_names(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: n for name, n in counts.items() if name.partition(":")[0] != "sprout"}


def sentence(source: str, tally: SourceCounts) -> str:
    """`bob answered 3 of 24 requests (lost: 20 answer:request_failed, 1 answer:truncated; it said: HTTP 403: no)`."""
    asked, lost = tally.num_asked, tally.num_lost
    if is_silent(tally):
        asked = sum(_without_names(tally.asked).values()) or asked
        text = f"{source} answered NONE of its {asked} requests"
    else:
        text = f"{source} answered {asked - lost} of {asked} requests"
    return text + (f" (lost: {reasons(tally)})" if lost else "")


def reasons(tally: SourceCounts) -> str:
    """What was lost, the most frequent first, and what was said of it."""
    largest = sorted(tally.lost.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{n} {reason}" for reason, n in largest[:MAX_REASONS]]
    if others := sum(n for _, n in largest[MAX_REASONS:]):
        told.append(f"{others} others")
    said = " ".join(tally.said.split())
    return ", ".join(told) + (f"; it said: {said[:MAX_SAID]}" if said else "")


def silent(tallies: Mapping[str, SourceCounts]) -> dict[str, str]:
    """Sources that gave nothing, with the sentence about each."""
    return {source: sentence(source, tally) for source, tally in tallies.items() if is_silent(tally)}


def troubled(tallies: Mapping[str, SourceCounts]) -> list[str]:
    """Sentences about the sources that gave something and lost requests to errors."""
    return [
        sentence(source, tally)
        for source, tally in tallies.items()
        if not is_silent(tally) and any(reason.partition(":")[2] in ERRORS for reason in tally.lost)
    ]
