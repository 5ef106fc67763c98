"""Observers only look: with none of them a run harvests, trains, stops and keeps the same."""

from dataclasses import replace

import pytest
from scripted_parts import scripted_config, scripted_parts

from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.fusion import fuse
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.tree.record.history import read_history

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(180)]


def outcome(folder, **changes) -> dict:
    """What a run leaves, without times."""
    training = {"global_batch_size": 8, "keep_checkpoints": 1, "rehearsal": {"share": 0.25}}
    config = scripted_config(str(folder), stop={"rounds": 4, "samples": 40}, training=training)
    summary = fuse(config, parts=replace(scripted_parts(), **changes))
    run = RunDir.open(folder)
    rounds = read_history(data for _, data in Segments(run).read_segments().segments)
    figures = {
        name: value for name, value in summary.to_json().items() if name not in ("seconds", "overlap_share", "paths")
    }
    for round in figures["rounds"]:
        del round["seconds"]
    return {
        "figures": figures,
        "rows": [record.row_sample_ids for record in rounds],
        "samples": sorted(sample.sample_id for sample in SampleStore(run).iter_samples()),
        "rehearsals": sorted(run.names("replay")),
        "checkpoints": run.committed_rounds(),
    }


class Raising:
    """An observer that is left out at once."""

    def tell(self, event) -> None:
        raise ValueError("I do not like it")

    def close(self) -> None: ...


def test_without_observers_a_run_is_the_same(tmp_path):
    watched = outcome(tmp_path / "watched")
    unseen = outcome(tmp_path / "unseen", observers=lambda config, run: [])
    assert watched == unseen
    assert len(watched["checkpoints"]) < len(watched["figures"]["rounds"]), "some were deleted"
    assert (tmp_path / "watched" / "metrics.jsonl").exists() and not (tmp_path / "unseen" / "metrics.jsonl").exists()


def test_an_observer_that_fails_ends_no_run(tmp_path):
    assert outcome(tmp_path / "run", observers=lambda config, run: [Raising()])["figures"]["stop_reason"]
