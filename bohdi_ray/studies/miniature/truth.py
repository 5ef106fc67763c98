"""A world as files: OUT/world/facts.parquet (one row per fact), OUT/world/tree.json (everything else), and OUT/tasks.

Written by `build.py`, read by programs that compare a run with the ground truth. OUT/tasks is a folder of tasks for
`bohdi evaluate`: one per leaf, with the questions whose answers were taught; the group `miniature` is the mean over
leaves, as the report's accuracy (report.py); `miniature_untaught` has the instances of rules that no model was taught.
The models answer chats, so evaluate them with `--chat`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from bohdi_ray.errors import ConfigError
from bohdi_ray.records import DomainPath
from bohdi_ray.studies.miniature.answering import MAX_NEW_TOKENS
from bohdi_ray.studies.miniature.world import Fact, World, questions

FOLDER, FACTS, TREE = "world", "facts.parquet", "tree.json"
TASKS, GROUP, UNTAUGHT = "tasks", "miniature", "miniature_untaught"


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


def write_tasks(world: World, out: Path) -> None:
    """Writes OUT/tasks: a YAML file and a file of JSON Lines per task."""
    folder = out / TASKS
    folder.mkdir(parents=True, exist_ok=True)
    asked = list(questions(world))
    for leaf in world.leaves:
        rows = [(question, fact.answer) for fact, question in asked if fact.path == leaf and fact.taught]
        _write_task(folder, task_of(leaf), rows)
    rows = [(question, fact.answer) for fact, question in asked if not fact.taught]
    if rows:
        _write_task(folder, UNTAUGHT, rows)
    group = {
        "group": GROUP,
        "task": [task_of(leaf) for leaf in world.leaves],
        "aggregate_metric_list": [
            {"metric": "exact_match", "aggregation": "mean", "weight_by_size": False, "filter_list": "text"}
        ],
    }
    _write_yaml(folder / f"{GROUP}.yaml", group)


def task_of(leaf: DomainPath) -> str:
    """The name of a leaf's task."""
    return "_".join([GROUP, *(re.sub(r"\W+", "-", title.lower()).strip("-") for title in leaf)])


def _write_task(folder: Path, name: str, rows: Sequence[tuple[str, str]]) -> None:
    lines = [json.dumps({"question": question, "answer": answer}) for question, answer in rows]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [], "max_gen_toks": MAX_NEW_TOKENS, "do_sample": False},
        # Without outer spaces, as answers are compared everywhere here.
        "filter_list": [
            {
                "name": "text",
                "filter": [{"function": "regex", "regex_pattern": r"(?s)^\s*(.*?)\s*$"}, {"function": "take_first"}],
            }
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    _write_yaml(folder / f"{name}.yaml", task)


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
