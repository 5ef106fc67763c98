"""Which of a machine's NVIDIA cards CUDA_VISIBLE_DEVICES leaves to a process, as CUDA itself reads it.

Called by placement/machines.py with what the driver's tool prints. Pure functions over text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# One line of `nvidia-smi -L` for a slice of a card, below the card's own line.
SLICE = re.compile(r"^\s+MIG (?P<profile>\S+)\s+Device\s+\d+: \(UUID: (?P<uuid>MIG-[^)]+)\)")
CARD = re.compile(r"^GPU \d+: (?P<name>.*) \(UUID: (?P<uuid>GPU-[^)]+)\)")
# One line of `QUERY`. Memory is "[N/A]" or the like where the driver does not say.
ROW = re.compile(
    r"^\s*(?P<index>\d+)\s*,\s*(?P<name>.+?)\s*,\s*(?P<mebibytes>\d+|\[[^,\]]*\]|N/A)\s*(,\s*(?P<uuid>\S+))?\s*$"
)
QUERY = ("nvidia-smi", "--query-gpu=index,name,memory.total,uuid", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True)
class Card:
    """A card, or a slice of one."""

    uuid: str  # its index, where the tool tells none
    name: str
    memory_gb: float | None  # None: the tool does not say, as for cards that share the machine's memory


def listed_cards(printed: str) -> list[Card]:
    """The cards in what `QUERY` prints, by index."""
    cards: dict[int, Card] = {}
    for line in printed.splitlines():
        if (found := ROW.match(line)) is not None:  # the tool writes warnings between its lines
            memory = float(found["mebibytes"]) * 2**20 / 1e9 if found["mebibytes"].isdecimal() else None
            cards[int(found["index"])] = Card(found["uuid"] or found["index"], found["name"], memory)
    return [card for _, card in sorted(cards.items())]


def listed_slices(printed: str) -> list[Card]:
    """The slices (MIG) in what `nvidia-smi -L` prints. A profile such as 1g.10gb names the memory."""
    name, slices = "", []
    for line in printed.splitlines():
        if (card := CARD.match(line)) is not None:
            name = card["name"]
        elif (found := SLICE.match(line)) is not None:
            memory = re.search(r"(\d+)gb", found["profile"])
            slices.append(Card(found["uuid"], name, float(memory[1]) * 2**30 / 1e9 if memory else None))
    return slices


def wants_slices(variable: str | None) -> bool:
    """Whether slices are named, which `QUERY` does not list."""
    return variable is not None and any(entry.strip().startswith("MIG-") for entry in variable.split(","))


def visible_cards(variable: str | None, cards: Sequence[Card], slices: Sequence[Card] = ()) -> list[Card]:
    """What CUDA shows: all without the variable, else those named up to the first entry that names none.

    An entry is an index, of which only the leading digits count, or the beginning of a UUID that fits one card. A card
    named twice leaves none at all.
    """
    if variable is None:
        return list(cards)
    found: list[Card] = []
    for entry in variable.split(","):
        card = _named(entry.strip(), cards, slices)
        if card is None:
            break
        if card in found:
            return []
        found.append(card)
    return found


def _named(entry: str, cards: Sequence[Card], slices: Sequence[Card]) -> Card | None:
    for prefix, known in (("GPU-", cards), ("MIG-", slices)):
        if entry.startswith(prefix):
            if not any(card.uuid.startswith(prefix) for card in known):
                # The tool tells no such names; whoever set the variable knew them.
                return Card(entry, cards[0].name, cards[0].memory_gb) if cards else None
            fitting = [card for card in known if card.uuid.lower().startswith(entry.lower())]
            return fitting[0] if len(fitting) == 1 else None
    digits = re.match(r"\+?(\d+)", entry)
    index = int(digits[1]) if digits else len(cards)
    return cards[index] if index < len(cards) else None
