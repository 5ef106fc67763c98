"""A folder of small tasks of every kind, for tests of `bohdi evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

WORDS = [
    *("light", "water", "tree", "answer", "question", "label", "history", "music"),
    *("law", "science", "number", "table", "root", "leaf", "medium", "speed"),
]
MULTIPLE_CHOICE = {"output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_target": "{{answer}}"}
ACC = [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")]


def write_task(folder: Path, name: str, docs: list[dict[str, Any]], **settings: Any) -> None:
    """A YAML file with its data beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task | settings))


def choices(num: int = 12) -> list[dict[str, Any]]:
    """Questions with three answers of several tokens."""
    return [
        {
            "question": f"Which {WORDS[i % 16]} is the best one?",
            "choices": [f"the {WORDS[(i * j + 3) % 16]} of number {j}" for j in (1, 2, 3)],
            "answer": i % 3,
        }
        for i in range(num)
    ]


def write_tasks(folder: Path) -> None:
    """One of each kind: answers of several tokens, letters, context that is too long, texts, rolling scores."""
    write_task(folder, "endings", choices(), **MULTIPLE_CHOICE, doc_to_choice="{{choices}}", metric_list=ACC)
    letters = [{**doc, "question": f"{doc['question']} A, B or C?\nAnswer:"} for doc in choices()]
    one_token = {"doc_to_choice": ["A", "B", "C"], "target_delimiter": ""}
    write_task(folder, "letters", letters, **MULTIPLE_CHOICE, **one_token, metric_list=ACC)
    long = [{**doc, "question": " ".join(WORDS * 20) + doc["question"]} for doc in choices(2)]
    write_task(folder, "long", long, **MULTIPLE_CHOICE, doc_to_choice="{{choices}}", metric_list=ACC)
    write_task(
        folder,
        "texts",
        [{"question": f"Explain the {word}.", "answer": word} for word in WORDS[:6]],
        output_type="generate_until",
        doc_to_text="{{question}}",
        doc_to_target="{{answer}}",
        generation_kwargs={"until": ["e "], "max_gen_toks": 12, "do_sample": False},
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    )
    write_task(
        folder,
        "rolling",
        [{"text": " ".join(WORDS[i:] * 12)} for i in range(3)],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": "byte_perplexity"}],
    )
