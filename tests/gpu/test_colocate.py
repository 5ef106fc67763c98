"""`placement: colocate` on a real card: the memory goes and comes back, and a whole fusion takes its turns there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "jobs" / "configs" / "quickstart.yaml"


@pytest.mark.timeout(900)
def test_an_engine_that_sleeps_and_a_learner_that_rests_leave_the_card_to_the_other(smollm2_dir, tmp_path):
    from bohdi_ray.config import VllmModel
    from bohdi_ray.training.weights.versions import publish_base

    base, out = str(tmp_path / "base"), tmp_path / "out.json"
    publish_base(VllmModel(name="tiny", model=str(smollm2_dir)), base)
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "tests", ROOT / "tests" / "real"))
    program = [sys.executable, str(Path(__file__).with_name("card_turns.py")), base, str(out)]
    done = subprocess.run(program, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    found = json.loads(out.read_text())
    free = found["free_gb"]
    taken = free["empty"] - free["engine awake"]
    assert free["engine asleep"] - free["engine awake"] > 0.8 * taken, "the weights and the KV cache have left"
    assert free["engine asleep"] - free["learner rests"] < 3, "a CUDA context, and little more"
    assert abs(free["engine awake again"] - (free["learner rests"] - taken)) < 3
    held, rests = found["learner_bytes"]
    assert held > 12 * 134e6 and rests < 0.1 * held, "weights and optimizer state of 134 million parameters"
    assert found["losses"]["turns"] == pytest.approx(found["losses"]["stays"], rel=0.02)
    assert found["answers"] == found["answers"][:1] * 3
    assert found["proof"] < 0.15


@pytest.mark.timeout(1500)
def test_a_fusion_takes_turns_on_one_card(quickstart_models, tmp_path):
    """The quickstart, with one card for everything. Its figure is the same as on a CPU."""
    run = tmp_path / "run"
    changes = [f"run_dir={run}", "placement=colocate", "harvest.max_staleness=0", "observe.console=lines"]
    program = [sys.executable, "-m", "bohdi_ray.cli", "fuse", str(QUICKSTART), *changes]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=1400)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    summary = json.loads((run / "summary.json").read_text())
    assert [r["weights_version"] for r in summary["rounds"]] == [0, 1, 2]
    assert summary["heldout_loss_after"] <= 0.8 * summary["heldout_loss_before"]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    time_sharing = [record["to"] for record in records if record["kind"] == "turn"]
    assert time_sharing == ["training", "harvest", "training", "harvest", "training"]
    assert [record["num_replaced"] for record in records if record["kind"] == "engines"][-1] == 0
