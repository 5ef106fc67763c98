"""A run's knowledge tree as text or JSON, read from its journal. Called by `bohdi tree`; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bohdi_ray.languages.terminal_text import json_text, one_line
from bohdi_ray.questions.domains import starting_domains
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.tree_snapshots import restore
from bohdi_ray.tree.manager import TreeManager


def replayed(location: str) -> tuple[TreeManager, str | None]:
    """The tree at the end of a run's journal, and what is wrong with the journal's last segment, if anything."""
    run = RunDir.open(location)
    config = run.config()
    restored = restore(config, starting_domains(config, run), run)
    return restored.manager, restored.damaged


def tree_json(location: str) -> str:
    """The whole description by TreeManager, as JSON."""
    manager, damaged = replayed(location)
    plain = {"digest": manager.digest(), "damaged": damaged, "stats": manager.stats(), "tree": manager.describe()}
    return json_text(plain, indent=2, default=str)


def tree_text(location: str, depth: int | None) -> str:
    """One line per domain, best worth learning first: the mean of its posterior is how often the target loses there."""
    manager, damaged = replayed(location)
    root = manager.describe()
    lines = [
        f"round {root['round']}, target version {root['weights_version']}, {root['num_samples']} samples, "
        f"digest {manager.digest()}"
    ]
    if damaged is not None:
        lines.append(f"note: {one_line(damaged)}")
    lines.append("loses: mean of Beta(alpha, beta); unk: that arm's chance to find a new child")
    return "\n".join([*lines, *_lines(root, depth, 0)])


def _lines(node: dict[str, Any], depth: int | None, level: int) -> Iterator[str]:
    for child in sorted(node["children"], key=lambda child: (-_mean(child), child["name"])):
        counts = f"loses {_mean(child):.2f} ({child['alpha']:g}, {child['beta']:g}), {child['num_samples']} samples"
        unk = f", unk {_mean(child['unk']):.2f}" if child["unk"] else ""
        yield f"{'  ' * level}{one_line(child['name'])}: {counts}{unk}"
        if depth is None or level + 1 < depth:
            yield from _lines(child, depth, level + 1)


def _mean(posterior: dict[str, Any]) -> float:
    return posterior["alpha"] / (posterior["alpha"] + posterior["beta"])
