"""The vocabulary of invented worlds: kinds of things, attributes with their values, and meaningless names."""

from __future__ import annotations

import numpy as np

KINDS = tuple(
    [
        "bird",
        "river",
        "ship",
        "tower",
        "bridge",
        "garden",
        "lake",
        "horse",
        "castle",
        "harbour",
        "mountain",
        "lantern",
        "statue",
        "island",
        "forest",
        "village",
        "carpet",
        "fountain",
        "market",
        "mill",
        "temple",
        "canal",
        "theatre",
        "tavern",
        "cave",
        "road",
        "meadow",
        "window",
        "gate",
        "orchard",
    ]
)
ATTRIBUTES = {
    "colour": "red blue green yellow purple orange brown black white grey pink crimson azure violet golden silver",
    "metal": "iron copper tin zinc nickel lead cobalt chrome bronze brass steel mercury titan platinum radium lithium",
    "wood": "oak pine maple cedar birch walnut cherry ash elm teak ebony willow spruce poplar hazel beech",
    "spice": "pepper ginger saffron cumin nutmeg clove cacao vanilla anise paprika thyme basil sage mint dill fennel",
    "gem": "ruby emerald topaz opal pearl jade amber garnet diamond sapphire onyx agate quartz beryl zircon coral",
    "weather": "rain snow fog wind hail frost storm thunder drizzle sunshine sleet mist haze breeze dew cloud",
    "instrument": "violin flute drum harp piano trumpet guitar cello oboe organ lute horn banjo tuba clarinet bell",
    "fruit": "apple plum pear grape lemon melon mango peach apricot fig banana quince papaya lime kiwi olive",
    "cloth": "silk wool linen cotton velvet satin denim lace felt tweed canvas muslin jute hemp flannel nylon",
}
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
SYLLABLES = tuple(consonant + vowel for consonant in CONSONANTS for vowel in VOWELS)


def attribute_values(attribute: str) -> tuple[str, ...]:
    """The 16 values an attribute may take."""
    return tuple(ATTRIBUTES[attribute].split())


def invented_names(number: int, num_syllables: int, taken: set[str], rng: np.random.Generator) -> list[str]:
    """The given number of new names, in title case; adds them to `taken`."""
    names: list[str] = []
    while len(names) < number:
        name = "".join(rng.choice(SYLLABLES, num_syllables)).capitalize()
        if name not in taken:
            taken.add(name)
            names.append(name)
    return names
