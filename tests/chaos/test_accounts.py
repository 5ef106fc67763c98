"""The accounts of a run notice what tests of deaths rule out: each check fails on a run that was tampered with."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from accounts import accounts_of, lineage, weights_differ
from step_log import log_of

from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments


@pytest.fixture
def run(undisturbed, tmp_path):
    """A copy of an undisturbed run, its trainer's record included."""
    whole, _ = undisturbed
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    log_of(folder).write_text(log_of(whole).read_text().replace(str(whole), str(folder)))
    return folder


def rewrite_log(folder, change) -> None:
    lines = [json.loads(line) for line in log_of(folder).read_text().splitlines()]
    log_of(folder).write_text("".join(json.dumps(line) + "\n" for line in change(lines)))


def test_an_undisturbed_run_keeps_all_promises(run):
    accounts_of(run).check()
    told = accounts_of(run)
    assert told.in_flight == 0 < told.failed and told.committed + told.failed == 36


def test_a_sample_that_is_gone_is_lost_and_miscounted(run):
    part = sorted((run / "samples").glob("part-*"))[0]
    table = pq.read_table(part)
    pq.write_table(table.slice(1), part)
    told = accounts_of(run)
    assert told.lost == [table["sample_id"][0].as_py()] and "the root" in told.miscounted


def test_a_sample_that_was_seen_committed_and_is_forgotten_by_the_journal_is_lost(run):
    seen = dict(Segments(RunDir.open(str(run))).read_segments().segments)
    part = sorted((run / "samples").glob("part-*"))[-1]
    ids = pq.read_table(part)["sample_id"].to_pylist()
    part.unlink()
    last = max(number for number, data in seen.items() if ids[0].encode() in data)
    for number in range(last, len(seen)):
        (run / "tree" / f"segment-{number:08d}").unlink()
    for snapshot in (run / "tree").glob("snapshot-*"):
        shutil.rmtree(snapshot)
    assert accounts_of(run, seen, trainer_recorded=False).lost == ids
    assert accounts_of(run, trainer_recorded=False).lost == []


def test_a_step_taken_twice_or_left_out_is_noticed(run):
    original = log_of(run).read_text()
    rewrite_log(run, lambda lines: [line for line in lines for _ in range(1 + (line["event"] == "step"))])
    assert accounts_of(run).trained_twice == 36
    log_of(run).write_text(original)
    step = next(json.loads(line) for line in original.splitlines() if "step" in line and '"rows"' in line)
    rewrite_log(run, lambda lines: [line for line in lines if line.get("rows") != step["rows"]])
    assert accounts_of(run).not_trained == len(step["rows"])


def test_a_lineage_goes_through_the_state_that_a_learner_started_from(tmp_path):
    """A round stepped through by a learner that died counts only if what it wrote was resumed."""

    def line(event, learner, **fields):
        return {"event": event, "learner": learner, "rank": 0, **fields}

    def start(learner, behind, optimizer):
        folder = tmp_path / behind
        return line(
            "start", learner, weights=f"{folder}/weights", optimizer=f"{folder}/optimizer" if optimizer else None
        )

    def round(learner, number, kinds=("weights", "optimizer")):
        rows = line("step", learner, rows=[[number, 0, f"s{number}"]])
        return [rows, *(line(kind, learner, folder=str(tmp_path / f"round-{number}" / kind)) for kind in kinds)]

    died_late = [start("a", "base", False), *round("a", 0), *round("a", 1, ["weights"])]
    replays = [start("b", "round-0", True), *round("b", 1, ["optimizer"]), *round("b", 2)]
    trained = [tuple(row) for row in lineage(died_late + replays, tmp_path / "round-2")]
    assert trained == [(0, 0, "s0"), (1, 0, "s1"), (2, 0, "s2")]
    skips_back = [start("b", "base", False), *round("b", 0, []), *round("b", 1), *round("b", 2)]
    assert [row[0] for row in lineage(died_late + skips_back, tmp_path / "round-2")] == [0, 1, 2]
    stale = [start("b", "round-1", True), *round("b", 1, []), *round("b", 2)]
    assert [row[0] for row in lineage([*died_late, *round("a", 1)[1:], *stale], tmp_path / "round-2")] == [0, 1, 1, 2]


def test_weights_that_differ_in_one_bit_are_named(tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    for name, value in (("one", 1.0), ("other", np.nextafter(np.float32(1), np.float32(2)))):
        for folder in ("target", "checkpoints/round-0/weights"):
            (tmp_path / name / folder).mkdir(parents=True)
            tensors = {"same": np.zeros(3, np.float32), "moved": np.full(2, value, np.float32)}
            save_file(tensors, tmp_path / name / folder / "model.safetensors")
        (tmp_path / name / "config.yaml").write_text("seed: 1\n")
        (tmp_path / name / "checkpoints" / "round-0" / "COMMIT").touch()
    assert weights_differ(tmp_path / "one", tmp_path / "one") == []
    wrong = weights_differ(tmp_path / "one", tmp_path / "other")
    assert wrong == ["target: moved", "checkpoints/round-0/weights: moved"]
