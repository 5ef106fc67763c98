"""Runs that learn nothing: they say so while they run, end as failed, and go on once what is wrong is mended."""

import json

import pytest
from scripted_parts import Faults, scripted_config, scripted_parts

from bohdi_ray.cli.errors import RUN_FAILED, exit_code
from bohdi_ray.errors import NothingLearned, RowsRejected
from bohdi_ray.fusion import fuse
from bohdi_ray.observe.status import status_of
from bohdi_ray.run.run_dir import RunDir

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(300)]


def test_sources_that_answer_nothing_end_the_run_as_failed(tmp_path, capfd):
    folder, faults = tmp_path / "run", Faults(str(tmp_path / "faults"))
    for source in ("ada", "bob", "cyd"):
        faults.keep(f"mute-{source}")

    def go(rounds: int, resume: bool = True):
        return fuse(
            scripted_config(str(folder), stop={"rounds": rounds}), resume=resume, parts=scripted_parts(faults=faults)
        )

    with pytest.raises(NothingLearned, match=r"No round had a row to train on; lost: 16 no_proposals.*stop.rounds=2"):
        go(1, resume=False)
    written = json.loads((folder / "summary.json").read_text())
    assert written["failed_because"] and written["losses"] == {"no_proposals": 16}
    assert not (folder / "target").exists()
    # The round before counts, whichever driver saw it.
    with pytest.raises(NothingLearned, match="rounds 0 to 1 gave no sample; lost: 32 no_proposals") as failed:
        go(5)
    assert exit_code(failed.value) == RUN_FAILED
    told = "".join(capfd.readouterr())
    assert "round 0: NO SAMPLE, 0 of 16 walks gave a sample (lost: 16 no_proposals)" in told
    assert "round 0: NOTHING to train on, weights version 1 is version 0 unchanged" in told
    status = status_of(str(folder)).text()
    assert status.startswith("stopped: ") and "NothingLearned" in status and "lost: 32 no_proposals" in status
    for source in ("ada", "bob", "cyd"):
        faults.mend(f"mute-{source}")
    summary = go(4)
    assert [bool(r.accepted) for r in summary.rounds] == [False, False, True, True]
    assert [r.abandoned for r in summary.rounds[:2]] == [{"no_proposals": 16}] * 2
    assert summary.failed_because is None and (folder / "target").exists()


def test_rows_that_cannot_be_learned_from_end_the_run_as_failed(tmp_path, capfd):
    folder, faults = tmp_path / "run", Faults(str(tmp_path / "faults"))
    faults.keep("reject")

    def go(rounds: int, fraction: float, resume: bool = True):
        training = {"global_batch_size": 8, "max_rejected_fraction": fraction}
        config = scripted_config(str(folder), stop={"rounds": rounds}, training=training)
        return fuse(config, resume=resume, parts=scripted_parts(faults=faults))

    with pytest.raises(
        RowsRejected, match=r"12 of 12 training rows of round 0 .*12 prompt_too_long.*max_length"
    ) as failed:
        go(2, 0.5, resume=False)
    assert exit_code(failed.value) == RUN_FAILED
    assert RunDir.open(folder).committed_rounds() == []
    # Asked for, they are told, and the run is no success all the same.
    with pytest.raises(NothingLearned, match=r"All training rows were rejected \(\d+ prompt_too_long\)"):
        go(2, 1.0)
    written = json.loads((folder / "summary.json").read_text())
    assert [(r["trained_rows"], r["rejected_rows"]) for r in written["rounds"]] == [(0, {"prompt_too_long": 12})] * 2
    told = "".join(capfd.readouterr())
    assert "12 of 12 rows REJECTED (12 prompt_too_long)" in told and "rows trained 0 of 12" in told
    assert "trained to weights version 1" not in told
    faults.mend("reject")
    summary = go(4, 0.5)
    assert [r.trained_rows for r in summary.rounds] == [0, 0, 12, 12] and (folder / "target").exists()
