"""`questions.kind: corpus`: what it implies, and what cannot work with it. Pure; called by fusion_config.py.

A corpus is a tree that is grown already: its domain columns are the levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bohdi_ray.config.kinds.questions import CorpusQuestions
from bohdi_ray.config.presets import with_values
from bohdi_ray.errors import ConfigError

if TYPE_CHECKING:
    from bohdi_ray.config import FusionConfig


def with_corpus(data: Any) -> Any:
    """`data` with the depth that a corpus's domain columns imply, where it has none of its own; never changed in
    place."""
    questions = data.get("questions") if isinstance(data, Mapping) else None
    if isinstance(questions, CorpusQuestions):
        domains: Any = questions.domains
    elif isinstance(questions, Mapping) and questions.get("kind") == "corpus":
        domains = questions.get("domains", ())
    else:
        return data
    return with_values(data, {"tree.depth": max(1, len(domains))}) if isinstance(domains, list | tuple) else data


def errors_of_corpus(config: FusionConfig) -> Iterator[ConfigError]:
    """One error for each setting that does not work with `questions.kind: corpus`."""
    questions, tree = config.questions, config.tree
    if not isinstance(questions, CorpusQuestions):
        return
    levels = max(1, len(questions.domains))
    if tree.depth != levels:
        rule = f"with a corpus the tree has a level per column of questions.domains, {levels}"
        yield ConfigError("tree.depth", tree.depth, rule, "Leave it out.")
    for name in ("seed", "max_children"):
        if (value := getattr(tree, name)) is not None:
            yield ConfigError(f"tree.{name}", value, "with a corpus no domain is born", "Leave it out.")
    repeated = [name for name in questions.domains if questions.domains.count(name) > 1]
    if repeated:
        yield ConfigError("questions.domains", questions.domains, f"{repeated[0]} is named twice", "Name it once.")
