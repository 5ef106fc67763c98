"""Where text of models is kept or shown it ends nowhere but in data: tree view, data sets, metrics, file names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hostile_fusion import CONFIG, Saying, files_below, harvest
from hostile_input import HOSTILE, harms

from bohdi_ray.cli import main
from bohdi_ray.engines.prompts import clean_text
from bohdi_ray.examples.export import ExportOptions, export
from bohdi_ray.examples.kinds import Completion
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.observe.metrics import Metrics
from bohdi_ray.records import Proposals, ticket_id
from bohdi_ray.run.quarantine import part_name
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.tree.elections import parse_request_id
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.names import valid_name
from bohdi_ray.tree.record import journal

# A harvest with the texts in every role, and one with harmless ones, to compare with.


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    models = Saying(HOSTILE)
    run, samples = harvest(tmp_path_factory.mktemp("hostile") / "run", models)
    assert len(samples) > 10 and len(models.said) > 50
    for text in HOSTILE:
        cleaned = clean_text(text)
        assert any(
            cleaned in text for sample in samples for text in (sample.question, *(c.text for c in sample.candidates))
        )
    return run, samples


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    return harvest(tmp_path_factory.mktemp("harmless") / "run", Saying(()))


# The tree view.


def test_no_name_of_a_hostile_model_becomes_a_domain(hostile):
    run, _ = hostile
    shown = CliRunner().invoke(main, ["tree", run.location, "--json"])
    names = []
    pending = json.loads(shown.output)["tree"]["children"]
    while pending:
        node = pending.pop()
        names.append(node["name"])
        pending += node["children"]
    assert names and all(name.replace(" ", "").isalpha() for name in names)


def test_the_tree_view_of_a_foreign_journal(tmp_path):
    """Names that no run of this version takes, but a file can hold."""
    names = [text.replace("/", "|") for text in HOSTILE if not any("\ud800" <= c <= "\udfff" for c in text)]
    run = RunDir.create(tmp_path / "run", CONFIG, {})
    born = [journal.Elected((), False, name, {}) for name in names] + [journal.Elected((names[0],), False, "Leaf", {})]
    walked = [journal.Walked(0, index, (names[0], "Leaf")) for index in range(6)]
    failed = [journal.Failed(ticket_id(0, 0, index), "invalid_question") for index in range(6)]
    second = [journal.Walked(1, index, (names[0], "Leaf")) for index in range(6)]
    events = [
        *born,
        *walked,
        journal.WalksDone(0),
        *second,
        journal.WalksDone(1),
        *failed,
        journal.StepCommitted(0, ""),
    ]
    Segments(run).write_segment(0, journal.encode(events))
    text = CliRunner().invoke(main, ["tree", run.location])
    assert text.exit_code == 0 and harms(text.output) == []
    assert len(text.output.splitlines()) == 2 + len(names) + 1, "one line for each node"
    plain = CliRunner().invoke(main, ["tree", run.location, "--json"])
    assert plain.exit_code == 0 and harms(plain.output) == []
    assert {child["name"] for child in json.loads(plain.output)["tree"]["children"]} == set(names)


# Exports.


@pytest.mark.parametrize("shape", ["sft", "preference"])
def test_exports_hold_the_texts_and_nothing_acts(hostile, harmless, tmp_path, shape):
    run, samples = hostile
    done = export(run, tmp_path / "out", ExportOptions(format=shape))
    export(harmless[0], tmp_path / "plain", ExportOptions(format=shape))
    assert files_below(tmp_path / "out") == files_below(tmp_path / "plain"), "names do not come from texts"
    texts = {text for sample in samples for text in (sample.question, *(c.text for c in sample.candidates))}
    for split, num_rows in done.rows.items():
        data = (tmp_path / "out" / f"{split}.jsonl").read_bytes().decode("utf-8")
        assert harms(data) == [], "a line is shown as often as it is parsed"
        assert len(data.splitlines()) == num_rows
        rows = [json.loads(line) for line in data.splitlines()]
        assert rows == pq.read_table(tmp_path / "out" / f"{split}.parquet").to_pylist()
        for row in rows:
            messages = [m for key in ("messages", "prompt", "chosen", "rejected") for m in row.get(key, [])]
            assert messages and all(message["content"] in texts for message in messages)
            assert all(message["role"] in ("user", "assistant") for message in messages)
    cards = [(tmp_path / name / "README.md").read_text("utf-8") for name in ("out", "plain")]
    fixed = [re.sub(r"## Left out of this export\n.*?(?=## )|\d+", "", card, flags=re.S) for card in cards]
    assert fixed[0] == fixed[1], "the card of harmless texts, but for counts"
    reasons = re.findall(r"^\| ([^|]+) \| \d+ \|$", cards[0].partition("## Left out")[2], re.M)
    assert set(reasons) <= {"tie", "single eligible answer", "equal texts"}


def test_rows_for_training_are_the_texts_as_stored(hostile):
    run, samples = hostile
    rows = SampleStore(run).completions([sample.sample_id for sample in samples])
    assert rows == {one.sample_id: Completion(one.sample_id, one.question, one.answer) for one in samples}


# Metrics and files.


def test_metrics_of_a_hostile_run_are_lines_of_the_same_fields(hostile, harmless):
    lines = []
    for run, _ in (hostile, harmless):
        data = run.read_bytes("metrics.jsonl").decode("ascii")
        assert harms(data) == []
        lines.append([sorted(json.loads(line)) for line in data.splitlines()])
    assert lines[0] == lines[1]
    said = json.dumps(
        sorted(sorted(json.loads(line)["counts"]) for line in hostile[0].read_bytes("metrics.jsonl").splitlines())
    )
    assert re.fullmatch(r'[\w":, \[\]]*', said), "counts are named by us"


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_metric_with_a_hostile_value_is_one_line_of_ascii(tmp_path, text):
    run = RunDir.create(tmp_path / "run", CONFIG, {})
    with Metrics(run) as metrics:
        metrics.log("notice", text=text, model=text, nested={text: [text, float("nan")]})
        metrics.log("next", n=1)
    lines = run.read_bytes("metrics.jsonl").decode("ascii").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["notice", "next"]
    assert json.loads(lines[0])["nested"] == {text: [text, None]} and harms(lines[0]) == []


def test_file_names_of_a_hostile_run_are_those_of_a_harmless_one(hostile, harmless):
    found = [files_below(Path(run.location)) for run, _ in (hostile, harmless)]
    for names in found:
        assert all(re.fullmatch(r"[a-z0-9/._-]+", name) for name in names), names
    assert found[0] == found[1]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_name_that_is_no_name_reaches_no_node_id_or_file(tmp_path, text):
    manager = TreeManager(CONFIG)
    request = manager.work(0).sprouts[0]
    manager.propose(Proposals(request.request_id, (text, text.title(), "Fine Name"), 0, 1))
    assert all(valid_name(child.name) == child.name for child in manager.tree.root.arms.children)
    name = part_name(f"sprout/{text}/0/model/0")
    assert re.fullmatch(r"part-sprout-[0-9a-f]{16}\.parquet", name)
    assert re.fullmatch(r"part-[\w-]+\.parquet", part_name(f"{text}/answer/{text}/0"))
    try:
        path, poll = parse_request_id(text)
    except ValueError:
        return
    raise AssertionError(f"{text!r} is taken for {path}, {poll}")
