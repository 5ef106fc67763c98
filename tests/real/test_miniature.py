"""The tiny miniature from end to end: built, fused by real engines and real training, measured against the truth."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from long_cases import long

from bohdi_ray.evaluation.program import evaluate
from bohdi_ray.evaluation.request import EvaluationRequest
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.studies.miniature.build import build
from bohdi_ray.studies.miniature.curriculum import lessons
from bohdi_ray.studies.miniature.judging import RULES, tally
from bohdi_ray.studies.miniature.program import REPORT, answers_of, fuse_and_tell, measure_and_tell, scored_contests
from bohdi_ray.studies.miniature.recipe import write_templates
from bohdi_ray.studies.miniature.report import right
from bohdi_ray.studies.miniature.sizes import TARGET, TINY
from bohdi_ray.studies.miniature.teaching import teach
from bohdi_ray.studies.miniature.truth import GROUP, UNTAUGHT, read_world
from bohdi_ray.studies.miniature.world import make_world


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, long(300, 1)])
def test_the_target_learns_from_its_sources_what_is_true(ray_session, tmp_path, seed, capsys):
    out = tmp_path / "miniature"
    build(out, TINY, seed, print)
    before = sockets()
    evaluated = [f"evaluate.tasks=[{out / 'tasks'}]", "evaluate.every=4", "evaluate.limit=null", "evaluate.chat=true"]
    settings = [f"run_dir={tmp_path / 'run'}", "observe.console=lines", *evaluated]
    text = fuse_and_tell(out, settings, None, print)
    assert sockets() <= before, "the engines left some behind"
    with capsys.disabled():
        print(f"\nworld {seed}\n{text}")
    plain = json.loads((tmp_path / "run" / REPORT).read_text())
    overall, judge = plain["overall"], plain["judge"]
    assert overall["after"] - overall["before"] >= 0.25
    assert overall["gained"] > 4 * overall["lost"]
    assert plain["versions"][0]["accuracy"] == pytest.approx(overall["before"])
    assert [level["found"] for level in plain["tree"]["levels"]] == [level["true"] for level in plain["tree"]["levels"]]
    assert judge["chosen"] >= 0.6 * judge["right_there"] > 0
    assert judge["unknown_questions"] <= 0.2 * plain["num_samples"]
    assert plain["rehearsal"]["questions"] > 0
    assert measure_and_tell(out, str(tmp_path / "run"), print) == text
    assert_judged_as_transformers_would(out, tmp_path / "run")
    assert_evaluated_as_counted(out, tmp_path / "run", plain)
    assert (tmp_path / "run" / "miniature.png").is_file() and (tmp_path / "run" / "miniature.svg").is_file()


def assert_evaluated_as_counted(out: Path, run: Path, plain: dict[str, Any]) -> None:
    """What `bohdi evaluate` finds right is what the miniature counts, question by question, and the scores during the
    run are those afterwards."""
    told: list[str] = []
    request = EvaluationRequest((str(run),), (str(out / "tasks"),), chat=True)
    done = evaluate(request, told.append, lambda subject, num_done, total: None)
    world = read_world(out)
    newest = len(plain["versions"]) - 1
    assert [one.subject.version for one in done.evaluated] == [0, newest]
    for one in done.evaluated:
        counted = right(world, answers_of(one.subject.path, world))
        found = {
            sample["doc"]["question"]: bool(sample["exact_match"])
            for samples in one.results["samples"].values()
            for sample in samples
        }
        assert found == counted, [question for question in counted if found.get(question) != counted[question]]
    group = {row.task: row for row in done.rows}[GROUP]
    before, after = (group.cells[name].value for name in group.cells)
    assert (before, after) == (pytest.approx(plain["overall"]["before"]), pytest.approx(plain["overall"]["after"]))
    taught = [loss.difference for loss in next(iter(done.interference.values())).tasks if loss.task != UNTAUGHT]
    assert sum(one.num_gained for one in taught) == plain["overall"]["gained"]
    assert sum(one.num_lost for one in taught) == plain["overall"]["lost"]
    # The run's own evaluations have asked all of this before.
    assert [one.counts.num_asked for one in done.evaluated] == [0, 0] and not any("starting" in line for line in told)
    during = json.loads((run / "summary.json").read_text())["evaluated"]
    assert set(during) >= {"0", str(newest)} and len(during) < newest + 1


def sockets() -> set[Path]:
    """Those of engines, in the temporary folder and one below it."""
    folder = Path(tempfile.gettempdir())
    found = {*folder.glob("*"), *folder.glob("bohdi-ipc-*/*")}
    return {path for path in found if path.is_socket()}


def assert_judged_as_transformers_would(out: Path, run: Path) -> None:
    """The scores that the run's engines judged by are those of the same models in plain transformers."""
    stored = {sample.sample_id: sample.verdict.scores for sample in SampleStore(RunDir.open(str(run))).iter_samples()}
    found = scored_contests(out, str(run))
    assert len(found) > 20
    for contest, rows in found:
        assert RULES["consensus"](rows, contest.leader, TARGET) == pytest.approx(stored[contest.sample_id], abs=0.01)
    rules = tally(found, TARGET)["rules"]
    assert rules["consensus"]["right"] > rules["chance"]["right"]


def test_a_seed_decides_a_model_to_the_last_bit(tmp_path):
    import torch

    threads, world = torch.get_num_threads(), make_world(0, TINY.world, ("llama", "qwen", "gemma"), "target")
    taught = lessons(world, "gemma", write_templates(tmp_path))
    corpus = [lesson.prompt for found in taught.values() for lesson in found]
    spec = next(spec for spec in TINY.models if spec.name == "gemma")
    try:
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            teach(spec, taught, corpus, replace(TINY.source_teaching, num_steps=3), seed, tmp_path / name)
    finally:
        torch.set_num_threads(threads)
    a, b, c = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir() if file.is_file()} for name in "abc"
    )
    assert {"model.safetensors", "tokenizer.json", "config.json", "generation_config.json"} <= a.keys()
    assert a == b and a["model.safetensors"] != c["model.safetensors"]
