"""Exports read back in Hugging Face datasets, hold the right rows, and say where they come from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bohdi_ray.errors import ConfigError, RunDirError
from bohdi_ray.examples.export import ExportOptions, export, rows_of
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.examples.sample_table import to_table
from bohdi_ray.records import Sample
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.tree.record.journal import StepCommitted, encode


def commit(run: RunDir, step: int, samples: list[Sample]) -> None:
    """A part of samples and the segment that makes it count."""
    part = SampleStore(run).write_part(0, step, to_table(samples))
    Segments(run).write_segment(step, encode([StepCommitted(step, part)]))


def pairs(sample: Sample, min_margin: float = 0.0) -> tuple[list[tuple[str, str, str]], Counter[str]]:
    left_out: Counter[str] = Counter()
    rows = list(rows_of(sample, "student", ExportOptions("preference", min_margin=min_margin), left_out))
    return [(row["chosen_by"], row["rejected_by"], row["pair"]) for row in rows], left_out


def test_best_meets_worst_and_a_winning_source_meets_the_target(make_sample: Callable[..., Sample]):
    sample = make_sample(scores={"alpha": 0.5, "beta": 0.2, "student": 0.3})
    assert pairs(sample)[0] == [("alpha", "beta", "best_worst"), ("alpha", "student", "source_target")]


def test_a_pair_that_is_both_is_written_once(make_sample: Callable[..., Sample]):
    sample = make_sample(scores={"alpha": 0.5, "beta": 0.3, "student": 0.2})
    assert pairs(sample)[0] == [("alpha", "student", "best_worst+source_target")]


def test_a_winning_target_gives_only_best_against_worst(make_sample: Callable[..., Sample]):
    sample = make_sample(scores={"alpha": 0.3, "beta": 0.2, "student": 0.5})
    assert pairs(sample)[0] == [("student", "beta", "best_worst")]


def test_ties_small_margins_and_single_answers_make_no_pair(make_sample: Callable[..., Sample]):
    assert pairs(make_sample(scores={"alpha": 0.5, "student": 0.5})) == ([], Counter({"tie": 1}))
    close = make_sample(scores={"alpha": 0.51, "student": 0.49})
    assert len(pairs(close, 0.01)[0]) == 1
    assert pairs(close, 0.1) == ([], Counter({"margin below min_margin": 1}))
    assert pairs(make_sample(scores={"alpha": 1.0})) == ([], Counter({"single eligible answer": 1}))


def test_the_margin_filters_sft_rows_too(make_sample: Callable[..., Sample]):
    close, single = make_sample(scores={"alpha": 0.51, "student": 0.49}), make_sample(scores={"alpha": 1.0})
    for sample, min_margin, expected in ((close, 0.0, 1), (close, 0.1, 0), (single, 0.0, 1), (single, 0.1, 0)):
        rows = list(rows_of(sample, "student", ExportOptions("sft", min_margin=min_margin), Counter()))
        assert len(rows) == expected


@pytest.fixture
def filled(run: RunDir, make_sample: Callable[..., Sample]) -> RunDir:
    for step in range(2):
        commit(run, step, [make_sample(i, 0, step, heldout=i == 3) for i in range(5)])
    return run


@pytest.mark.parametrize("format", ["sft", "preference"])
def test_datasets_reads_folder_parquet_and_jsonl_alike(
    filled: RunDir, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    out = tmp_path / "out"
    done = export(filled, out, ExportOptions(format))
    per_sample = 1 if format == "sft" else 2
    assert done.rows == {"train": 8 * per_sample, "heldout": 2 * per_sample}
    folder = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    lines = datasets.load_dataset("json", data_files=str(out / "train.jsonl"), cache_dir=str(tmp_path / "cache"))
    parquet = datasets.load_dataset("parquet", data_files=str(out / "train.parquet"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in folder.items()} == done.rows
    assert folder["train"].to_list() == lines["train"].to_list() == parquet["train"].to_list()
    row = folder["train"][0]
    question = {"role": "user", "content": "Question 0 of round 0 and step 0: why?"}
    best = {"role": "assistant", "content": "alpha answers 0"}
    if format == "sft":
        assert row["messages"] == [question, best]
    else:
        assert (row["prompt"], row["chosen"]) == ([question], [best])
        assert row["rejected"] == [{"role": "assistant", "content": "beta answers 0"}]


def test_a_split_not_asked_for_is_left_out(filled: RunDir, tmp_path: Path):
    done = export(filled, tmp_path / "out", ExportOptions(splits=("train",)))
    assert done.rows == {"train": 8}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"README.md", "train.jsonl", "train.parquet"}


def test_text_of_models_stays_one_line_of_json(run: RunDir, tmp_path: Path, make_sample: Callable[..., Sample]):
    hostile = 'line\n{"messages": []}\u2028"quoted" \x1b[2J <|im_end|>'
    commit(run, 0, [make_sample(0, question=hostile)])
    export(run, tmp_path / "out", ExportOptions())
    (line,) = (tmp_path / "out" / "train.jsonl").read_text().strip("\n").split("\n")
    assert json.loads(line)["messages"][0]["content"] == hostile


def test_the_card_states_facts_guesses_no_licence_and_names_no_folder(filled: RunDir, tmp_path: Path):
    export(filled, tmp_path / "out", ExportOptions("preference", min_margin=0.25))
    card = (tmp_path / "out" / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert "license" not in header
    assert "secret-owner" not in card
    facts = ("| alpha | source |", "someone/student-1b", "| min_margin of this export | 0.25 |", "| leader, orders 1 |")
    for fact in facts:
        assert fact in card
    assert "licences and terms of use of every model" in card


def test_an_output_folder_with_something_in_it_is_refused(filled: RunDir, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="not empty"):
        export(filled, tmp_path / "out", ExportOptions())


def test_a_run_without_samples_gives_no_data_set(run: RunDir, tmp_path: Path):
    with pytest.raises(RunDirError, match="holds no sample"):
        export(run, tmp_path / "out", ExportOptions())


def test_a_part_that_no_segment_names_is_not_exported(
    filled: RunDir, tmp_path: Path, make_sample: Callable[..., Sample]
):
    SampleStore(filled).write_part(0, 2, to_table([make_sample(0, 0, 2)]))
    Segments(filled).write_segment(2, encode([StepCommitted(2, "")]))  # a step without an accepted sample
    assert export(filled, tmp_path / "out", ExportOptions()).rows == {"train": 8, "heldout": 2}


def test_a_committed_part_that_is_gone_is_named(filled: RunDir, tmp_path: Path):
    filled.delete("samples/part-r0000-s001.parquet")
    with pytest.raises(RunDirError, match=r"part-r0000-s001.parquet is missing"):
        export(filled, tmp_path / "out", ExportOptions())
