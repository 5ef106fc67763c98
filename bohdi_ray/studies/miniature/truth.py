"""A world as files: OUT/world/facts.parquet (one row per fact) and OUT/world/tree.json (everything else). Pure pyarrow.

Written by `build.py`, read by programs that compare a run with the ground truth.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bohdi_ray.errors import ConfigError
from bohdi_ray.studies.miniature.world import Fact, World

FOLDER, FACTS, TREE = "world", "facts.parquet", "tree.json"


def write_world(world: World, out: Path) -> None:
    """Writes both files below `out`."""
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    models = list(world.knowledge)
    rows = [
        {
            "path": list(fact.path),
            "questions": list(fact.questions),
            "answer": fact.answer,
            "others": list(fact.others),
            "rule": fact.rule,
            "taught": fact.taught,
            "knowledge": {model: world.knowledge[model][i] for model in models},
        }
        for i, fact in enumerate(world.facts)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / FACTS)
    tree: dict[str, Any] = {
        "seed": world.seed,
        "level_names": list(world.level_names),
        "leaves": [list(leaf) for leaf in world.leaves],
        "names": {source: sorted(list(path) for path in paths) for source, paths in world.names.items()},
    }
    (folder / TREE).write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


def read_world(out: Path) -> World:
    """The world below `out`. Raises ConfigError if there is none."""
    try:
        tree = json.loads((out / FOLDER / TREE).read_text("utf-8"))
        rows = pq.read_table(out / FOLDER / FACTS).to_pylist()
        return World(
            seed=tree["seed"],
            level_names=tuple(tree["level_names"]),
            leaves=tuple(tuple(leaf) for leaf in tree["leaves"]),
            facts=tuple(
                Fact(
                    tuple(row["path"]),
                    tuple(row["questions"]),
                    row["answer"],
                    tuple(row["others"]),
                    row["rule"],
                    row["taught"],
                )
                for row in rows
            ),
            knowledge={model: tuple(row["knowledge"][model] for row in rows) for model in rows[0]["knowledge"]},
            names={source: frozenset(tuple(path) for path in paths) for source, paths in tree["names"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, pa.ArrowException) as error:
        remedy = "Build it: bohdi miniature build OUT."
        raise ConfigError("OUT", str(out), f"holds no miniature ({error})", remedy) from None
