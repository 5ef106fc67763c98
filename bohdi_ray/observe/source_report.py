"""The contribution of each source to a round: sums of what harvest tasks counted, and sentences about them for people.
Pure.

Called by observers and the summary, and by `bohdi status` for what metrics.jsonl has of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from bohdi_ray.records import SourceCounts

ERRORS = ("request_failed", "prompt_too_long", "request_quarantined", "unreadable")  # say nothing of a text's quality
MAX_REASONS = 3
MAX_SAID = 160


def summed(parts: Iterable[Mapping[str, SourceCounts]]) -> dict[str, SourceCounts]:
    """The counts of each source, added up, with its newest message."""
    asked: dict[str, Counter[str]] = {}
    lost: dict[str, Counter[str]] = {}
    said: dict[str, str] = {}
    for part in parts:
        for source, counts in part.items():
            asked.setdefault(source, Counter()).update(counts.asked)
            lost.setdefault(source, Counter()).update(counts.lost)
            if counts.said:
                said[source] = counts.said
    return {s: SourceCounts(dict(asked[s]), dict(lost[s]), said.get(s, "")) for s in asked}


def from_json(value: Any) -> dict[str, SourceCounts]:
    """The counts in a record of metrics.jsonl; entries of another form are skipped."""
    found = {}
    for source, record in value.items() if isinstance(value, dict) else ():
        if isinstance(record, dict):
            said = record.get("said")
            found[str(source)] = SourceCounts(
                _counts(record.get("asked")), _counts(record.get("lost")), said if isinstance(said, str) else ""
            )
    return found


def _counts(value: Any) -> dict[str, int]:
    whole = value.items() if isinstance(value, dict) else ()
    return {str(name): n for name, n in whole if isinstance(n, int) and not isinstance(n, bool) and n > 0}


def is_silent(counts: SourceCounts) -> bool:
    """Whether a source gave nothing usable: no question, no answer, no label; or no name, in a round that asked it only
    for names."""
    asked, lost = _without_names(counts.asked), _without_names(counts.lost)
    if not asked:
        asked, lost = dict(counts.asked), dict(counts.lost)
    return bool(asked) and sum(lost.values()) >= sum(asked.values())


def _without_names(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: n for name, n in counts.items() if name.partition(":")[0] != "sprout"}


def sentence(source: str, counts: SourceCounts) -> str:
    """`bob answered 3 of 24 requests (lost: 20 answer:request_failed, 1 answer:truncated; it said: HTTP 403: no)`."""
    asked, lost = counts.num_asked, counts.num_lost
    if is_silent(counts):
        asked = sum(_without_names(counts.asked).values()) or asked
        text = f"{source} answered NONE of its {asked} requests"
    else:
        text = f"{source} answered {asked - lost} of {asked} requests"
    return text + (f" (lost: {reasons(counts)})" if lost else "")


def reasons(counts: SourceCounts) -> str:
    """The reasons for lost requests, most frequent first, and the source's message."""
    largest = sorted(counts.lost.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{n} {reason}" for reason, n in largest[:MAX_REASONS]]
    if others := sum(n for _, n in largest[MAX_REASONS:]):
        named.append(f"{others} others")
    said = " ".join(counts.said.split())
    return ", ".join(named) + (f"; it said: {said[:MAX_SAID]}" if said else "")


def silent(by_source: Mapping[str, SourceCounts]) -> dict[str, str]:
    """The sources that gave nothing usable, each with a sentence about it."""
    return {source: sentence(source, counts) for source, counts in by_source.items() if is_silent(counts)}


def troubled(by_source: Mapping[str, SourceCounts]) -> list[str]:
    """Sentences about the sources that gave something and lost requests to errors."""
    return [
        sentence(source, counts)
        for source, counts in by_source.items()
        if not is_silent(counts) and any(reason.partition(":")[2] in ERRORS for reason in counts.lost)
    ]
