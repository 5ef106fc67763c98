"""Whole runs on a corpus: which rows become samples, on which side of held-out, and how such a run ends."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from scripted_driver import killed_when
from scripted_parts import scripted_config, scripted_parts

from bohdi_ray.engines.chat.turns import turns_of
from bohdi_ray.errors import ConfigErrors, RunDirError, RunFinished
from bohdi_ray.examples.export import ExportOptions, export
from bohdi_ray.examples.rehearsal_store import RehearsalStore
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.fusion import fuse
from bohdi_ray.observe.tree_view import tree_json, tree_text
from bohdi_ray.preflight import preflight
from bohdi_ray.run.run_dir import RunDir

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(300)]
NUM_ROWS = 40


def write_corpus(folder: Path) -> None:
    """40 rows in three leaves: texts and conversations, two rows to a document, and two that are no prompt."""
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there, are you awake?"}]
    talk += [{"role": "assistant", "content": "Hello. Yes, I am."}]
    rows = []
    for i in range(NUM_ROWS):
        question = f"What is the use of the thing that has the number {i}?"
        prompt = question if i % 4 else [*talk, {"role": "user", "content": question}]
        rows.append(
            {"ask": prompt, "main": "Arts" if i % 3 else "Law", "leaf": ("Tools", "Words")[i % 2], "doc": i // 2}
        )
    rows += [{"ask": None, "main": "Arts", "leaf": "Tools"}, {"ask": "x" * 5000, "main": "Arts", "leaf": "Tools"}]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def config(location, questions=None, **changes):
    """A run in a folder with its corpus beside it."""
    folder = Path(location)
    write_corpus(folder.parent / "corpus")
    corpus = {
        "kind": "corpus",
        "files": [str(folder.parent / "corpus" / "*.jsonl")],
        "prompt": "ask",
        "domains": ["main", "leaf"],
        "document": "doc",
        "max_chars": 1000,
    }
    sections = {
        "meditation": {"steps": 2, "walks_per_step": 8},
        "stop": {"rounds": 6},
        "enlightenment": {"rows": "each_once"},
        **changes,
    }
    return scripted_config(str(folder), questions=corpus | (questions or {}), **sections)


def samples_of(folder: Path):
    return list(SampleStore(RunDir.open(folder)).iter_samples())


@pytest.fixture(scope="module")
def whole(ray_session, tmp_path_factory):
    """Folder and summary of a run over the whole corpus."""
    folder = tmp_path_factory.mktemp("corpus") / "run"
    return folder, fuse(config(folder), parts=scripted_parts())


def test_every_row_is_asked_once_and_then_the_run_ends(whole):
    folder, summary = whole
    samples = samples_of(folder)
    tickets = sum(round.tickets for round in summary.rounds)
    assert tickets == NUM_ROWS and len(summary.rounds) == 3
    assert summary.stop_reason == "every row was drawn (questions.epochs)"
    assert summary.rounds[-1].abandoned == {"corpus_used_up": 8}
    assert len({sample.question for sample in samples}) == len(samples) == summary.num_accepted > 30
    wanted = {f"What is the use of the thing that has the number {i}?" for i in range(NUM_ROWS)}
    assert {turns_of(sample.question)[-1].text for sample in samples} <= wanted
    assert {sample.path for sample in samples} <= {
        ("Arts", "Tools"),
        ("Arts", "Words"),
        ("Law", "Tools"),
        ("Law", "Words"),
    }
    assert sum(round.training_rows for round in summary.rounds) == sum(not sample.heldout for sample in samples)


def test_the_rows_of_a_document_are_held_out_together(whole):
    sides = defaultdict(set)
    for sample in samples_of(whole[0]):
        number = int(turns_of(sample.question)[-1].text.rstrip("?").rpartition(" ")[2])
        sides[number // 2].add(sample.heldout)
    assert all(len(side) == 1 for side in sides.values())
    assert Counter(side for (side,) in sides.values()).keys() == {True, False}


def test_a_conversation_keeps_its_turns(whole):
    talks = [turns for sample in samples_of(whole[0]) if len(turns := turns_of(sample.question)) > 1]
    assert len(talks) >= 5
    assert {tuple(turn.role for turn in turns) for turns in talks} == {("system", "user", "assistant", "user")}
    assert {turns[2].text for turns in talks} == {"Hello. Yes, I am."}


def test_killed_between_two_steps_it_draws_the_same_rows(tmp_path, whole):
    folder = tmp_path / "run"
    config(folder)
    killed_when(
        "test_corpus", str(folder), "start", tmp_path / "log", lambda: len(list(folder.glob("tree/segment-*"))) >= 3
    )
    summary = fuse(config(folder), resume=True, parts=scripted_parts())
    assert summary.tree_digest == whole[1].tree_digest
    assert {s.sample_id: s.question for s in samples_of(folder)} == {
        s.sample_id: s.question for s in samples_of(whole[0])
    }
    with pytest.raises(RunFinished):
        fuse(config(folder), resume=True, parts=scripted_parts())


def test_a_second_epoch_draws_every_row_again(tmp_path):
    summary = fuse(config(tmp_path / "run", questions={"epochs": 2}), parts=scripted_parts())
    assert sum(round.tickets for round in summary.rounds) == 2 * NUM_ROWS
    asked = Counter(sample.question for sample in samples_of(tmp_path / "run"))
    assert max(asked.values()) == 2 and summary.num_accepted > 60
    assert "duplicate_question" not in summary.failures


def test_rehearsal_asks_rows_and_leaves_held_out_documents_out(tmp_path):
    training = {"rehearsal": {"share": 0.4, "questions_per_row": 1.0, "min_probability": 0.001}, "global_batch_size": 8}
    summary = fuse(config(tmp_path / "run", training=training, stop={"rounds": 2}), parts=scripted_parts())
    drawn = sum(not sample.heldout for sample in samples_of(tmp_path / "run"))
    assert sum(round.training_rows for round in summary.rounds) > drawn
    asked = [row for round in (0, 1) for row in RehearsalStore(RunDir.open(tmp_path / "run")).read(round)]
    assert {row.path[0] for row in asked} <= {"Arts", "Law"} and any(row.rejected == "heldout" for row in asked)


def test_a_run_whose_files_changed_is_refused_and_one_without_its_index_too(tmp_path):
    folder = tmp_path / "run"
    fuse(config(folder, stop={"rounds": 1}), parts=scripted_parts())
    longer = config(folder, stop={"rounds": 2})
    rows = tmp_path / "corpus" / "rows.jsonl"
    whole = rows.read_text()
    rows.write_text(whole.replace("the use of", "the aim of"))
    with pytest.raises(ConfigErrors, match="it is not what it was when the run began"):
        preflight(longer, None, resume=True).raise_if_wrong()
    rows.write_text(whole)
    (folder / "corpus" / "index.arrow").unlink()
    with pytest.raises(RunDirError, match=r"index\.arrow is missing"):
        fuse(longer, resume=True, parts=scripted_parts())


def test_the_tree_and_the_export_of_a_corpus(tmp_path, whole):
    folder = whole[0]
    assert "Arts" in tree_text(str(folder), None) and tree_json(str(folder))
    export(RunDir.open(folder), tmp_path / "data", ExportOptions("sft"))
    rows = [json.loads(line) for line in (tmp_path / "data" / "train.jsonl").read_text().splitlines()]
    talk = next(row["messages"] for row in rows if len(row["messages"]) == 5)
    assert [turn["role"] for turn in talk] == ["system", "user", "assistant", "user", "assistant"]
    card = (tmp_path / "data" / "README.md").read_text()
    assert "Prompts and domains come from files" in card and "synthetic" not in card
