"""`questions.kind: corpus`: what it implies, what is refused, where its files are, and what a plan says of them."""

from __future__ import annotations

import json

import pytest
import yaml

from bohdi_ray.config.loading import load_config, parse_config
from bohdi_ray.errors import ConfigErrors
from bohdi_ray.preflight.corpus import check_corpus
from bohdi_ray.preflight.findings import Findings

PLAIN = {"run_dir": "x", "sources": [{"name": "a", "model": "o/a"}], "target": {"name": "t", "model": "o/t"}}


def config(files=("/data/a.jsonl",), **changes):
    corpus = {"kind": "corpus", "files": list(files), **changes.pop("questions", {})}
    return parse_config({**PLAIN, "questions": corpus, **changes})


def test_the_domain_columns_are_the_levels_of_the_tree():
    assert config().tree.depth == 1
    assert config(questions={"domains": ["main", "leaf"]}).tree.depth == 2
    assert parse_config(config(questions={"domains": ["a", "b"]}).model_dump()).tree.depth == 2
    assert parse_config(PLAIN).tree.depth == 3
    assert config(preset="paper", questions={"domains": ["main", "leaf"]}).tree.depth == 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tree": {"depth": 3}}, "tree.depth"),
        ({"tree": {"seed": "s.yaml"}}, "tree.seed"),
        ({"tree": {"max_children": [2]}}, "tree.max_children"),
        ({"questions": {"domains": ["a", "a"]}}, "questions.domains"),
        ({"questions": {"files": []}}, "questions.files"),
        ({"questions": {"epochs": 0}}, "questions.epochs"),
        ({"questions": {"files": ["s3://KEY:SECRET@bucket/a.jsonl"]}}, "questions.files"),
    ],
)
def test_what_makes_no_sense_with_a_corpus_is_refused(changes, field):
    with pytest.raises(ConfigErrors) as caught:
        config(**changes)
    assert [error.field for error in caught.value.errors] == [field]


def test_relative_files_are_beside_the_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA", "/data")
    files = ["./a/*.jsonl", "b.parquet", "$DATA/c.jsonl", "s3://bucket/$DATA/d.jsonl"]
    (tmp_path / "fusion.yaml").write_text(yaml.safe_dump({**PLAIN, "questions": {"kind": "corpus", "files": files}}))
    found = load_config(tmp_path / "fusion.yaml").questions.files
    assert found == (f"{tmp_path}/a/*.jsonl", f"{tmp_path}/b.parquet", "/data/c.jsonl", "s3://bucket//data/d.jsonl")


def findings_of(path, rows, **changes) -> Findings:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    findings = Findings()
    check_corpus(config([str(path)], **changes), findings, resume=False)
    return findings


def test_a_plan_counts_rows_by_leaf_and_reason(tmp_path):
    rows = [{"prompt": f"Question {i // 2}", "field": "Law" if i % 3 else "Art"} for i in range(9)]
    rows += [{"prompt": None, "field": "Art"}, {"prompt": 3, "field": "Art"}]
    found = findings_of(tmp_path / "a.jsonl", rows, questions={"domains": ["field"], "epochs": 2}, stop={"rounds": 3})
    assert not found.problems
    assert found.corpus == [
        "9 rows of 1 file in 2 leaves, each up to 2 times",
        "    Law: 6",
        "    Art: 3",
        "4 rows of a document that an earlier row has",
        "2 further rows not used: row_null 1, row_wrong_type 1",
    ]
    assert found.advice == ["all rows are drawn after 1 round, and stop.rounds is 3"]


def test_a_plan_refuses_what_the_run_would_refuse(tmp_path):
    found = findings_of(tmp_path / "b.jsonl", [{"text": "a"}])
    assert [error.field for error in found.problems] == ["questions.prompt"]
