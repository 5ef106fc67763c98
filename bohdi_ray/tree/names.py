"""Domain names: the rule for valid names, and the starting domains that a user may give.

Called by the tree for seeds and by harvest/ for the sources' proposals; it never looks at a tree.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bohdi_ray.config import TreeConfig
from bohdi_ray.config.plain_yaml import TextLoader, YamlFault, read_yaml
from bohdi_ray.errors import ConfigError
from bohdi_ray.languages.fillers import FILLER_KEYS
from bohdi_ray.languages.names import MAX_SYLLABLES, fits, folded_name, is_word, name_key, titled
from bohdi_ray.records import DomainPath

MAX_RAW_CHARS = 1000  # of what a name is looked for in; normalising takes quadratic time at the worst
MAX_SEED_CHARS, MAX_SEED_VALUES = 1 << 24, 1 << 18  # a quarter of a million starting domains


@dataclass(frozen=True, slots=True)
class Grown:
    """A tree that grows no further: of every leaf the number of its tickets."""

    tickets: Mapping[DomainPath, int]


# Starting domains: a mapping of name to what is below, a list of those, one name, or nothing; or a tree grown already.
Seeds = Mapping[str, "Seeds"] | Sequence["Seeds"] | str | Grown | None


def valid_name(text: str) -> str | None:
    """`text` as a domain's name in title case, or None unless it is 1 to 3 words of letters and no filler.

    Spaces around and between words are normalised, and spelling as in `folded_name`; nothing else is corrected.
    `languages/names.py` defines words in scripts without spaces. `valid_name(valid_name(x)) == valid_name(x)`.
    """
    if len(text) > MAX_RAW_CHARS:
        return None
    words = folded_name(text).split()
    if not 1 <= len(words) <= MAX_SYLLABLES or not all(map(is_word, words)):
        return None
    name = unicodedata.normalize("NFC", " ".join(map(titled, words)))
    return name if fits(name) and name_key(name) not in FILLER_KEYS else None


def read_seeds(text: str) -> Seeds:
    """The starting domains in a YAML document. Raises ConfigError if it is not YAML that contains names."""
    try:
        # A domain called `No` or `2024` stays text, so the rule on names can speak about it.
        return read_yaml(text, TextLoader, MAX_SEED_CHARS, MAX_SEED_VALUES)
    except YamlFault as fault:
        raise ConfigError("tree.seed", str(fault), "it is not valid YAML", "Correct the file at that place.") from None


def seed_paths(seeds: Seeds, config: TreeConfig) -> list[DomainPath]:
    """The paths of all starting domains, parents first. Raises ConfigError for the first that breaks a rule.

    A name may occur once, as in a grown tree, and no node may have more children than `tree.max_children` allows.
    """
    if isinstance(seeds, Grown):
        return sorted({leaf[: level + 1] for leaf in seeds.tickets for level in range(len(leaf))})
    paths: list[DomainPath] = []
    taken: set[str] = set()
    num_children: dict[DomainPath, int] = {}
    for parent, text in _flat((), seeds):
        where = " / ".join((*parent, str(text)))[:200]
        name = valid_name(text) if isinstance(text, str) else None
        if name is None:
            rule = "a domain's name is 1 to 3 words of letters and no filler such as 'unknown' (docs/languages.md)"
            raise ConfigError("tree.seed", where, rule, "Rename it.")
        if name_key(name) in taken:
            raise ConfigError(
                "tree.seed", where, f"'{name}' occurs twice", "A name may be at one place only: rename one."
            )
        if len(parent) >= config.depth:
            rule = f"it is {len(parent) + 1} levels deep; tree.depth is {config.depth}"
            raise ConfigError("tree.seed", where, rule, "Remove it, or raise tree.depth.")
        num_children[parent] = num_children.get(parent, 0) + 1
        if config.max_children is not None and num_children[parent] > config.max_children[len(parent)]:
            rule = f"its parent may have {config.max_children[len(parent)]} children"
            raise ConfigError("tree.seed", where, rule, "Remove some, or raise tree.max_children.")
        taken.add(name_key(name))
        paths.append((*parent, name))
    return paths


def _flat(parent: DomainPath, seeds: object) -> Iterator[tuple[DomainPath, object]]:
    if seeds is None or seeds == "":
        return
    if isinstance(seeds, Mapping):
        for text, below in seeds.items():
            yield parent, text
            yield from _flat((*parent, valid_name(str(text)) or str(text)), below)
    elif isinstance(seeds, Sequence) and not isinstance(seeds, str):
        for entry in seeds:
            yield from _flat(parent, entry)
    else:
        yield parent, seeds
