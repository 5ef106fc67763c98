"""Whole fusions whose run directory is on an object store: a server on loopback that speaks S3."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from long_cases import long
from scripted_driver import killed_when
from scripted_parts import scripted_config, scripted_parts

from bohdi_ray import cli
from bohdi_ray.errors import RunDirError
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.fusion import fuse
from bohdi_ray.run import node_files
from bohdi_ray.run.retention import rounds_with_optimizer
from bohdi_ray.run.run_dir import RunDir, weights_dir

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(600)]


def config(location, **changes):
    sections = {"meditation": {"steps": 2, "walks_per_step": 8}, "stop": {"rounds": 3}, **changes}
    models = [{"kind": "vllm", "name": name, "model": "/none"} for name in ("ada", "bob", "cyd", "target")]
    return scripted_config(str(location), sources=models[:3], target=models[3], **sections)


def samples_of(location) -> dict[str, str]:
    return {sample.sample_id: sample.question for sample in SampleStore(RunDir.open(location)).iter_samples()}


def kill_when(location: str, how: str, folder: str, name: str, log: Path) -> None:
    """As soon as the run holds such a file."""
    run = RunDir(location)
    killed_when("test_run_on_s3", location, how, log, lambda: name in run.names(folder))


@pytest.mark.parametrize(
    "moments",
    [[("tree", "segment-00000001")], long(80, [("tree", "segment-00000001"), ("checkpoints/round-1", "COMMIT")])],
    ids=["once", "twice"],
)
def test_a_run_on_s3_that_is_killed_ends_as_an_undisturbed_one_on_disk(s3_address, tmp_path, moments):
    whole = fuse(config(tmp_path / "whole"), parts=scripted_parts())
    for number, moment in enumerate(moments):
        kill_when(s3_address, "resume" if number else "start", *moment, tmp_path / "log")
    summary = fuse(config(s3_address), resume=True, parts=scripted_parts())
    assert summary.tree_digest == whole.tree_digest
    assert samples_of(s3_address) == samples_of(tmp_path / "whole")
    run = RunDir.open(s3_address)
    assert run.committed_rounds()[-1] == 2 and run.is_exported("target") and run.is_exported("best")
    assert not run.exists("lease.json")
    assert json.loads(run.read_bytes("summary.json"))["tree_digest"] == whole.tree_digest
    kinds = [json.loads(line)["kind"] for line in run.read_bytes("metrics.jsonl").splitlines()]
    assert (
        kinds.count("resumed") == len(moments) and kinds.count("training") == 3 and kinds[-2:] == ["summary", "ended"]
    )
    assert b"test-secret" not in run.read_bytes("config.yaml") + run.read_bytes("environment.json")

    shown = CliRunner().invoke(cli.main, ["tree", s3_address])
    assert shown.exit_code == 0 and whole.tree_digest in shown.output
    exported = CliRunner().invoke(cli.main, ["export", s3_address, str(tmp_path / "data")])
    assert exported.exit_code == 0 and (tmp_path / "data" / "train.jsonl").exists(), exported.output
    again = CliRunner().invoke(cli.main, ["resume", s3_address])
    assert again.exit_code == 0 and "finished: " in again.output and "has ended (stop.rounds = 3)" in again.output


@pytest.mark.long(25)
def test_retention_on_s3_keeps_the_newest_and_a_node_keeps_few_copies(s3_address, tmp_path):
    training = {"global_batch_size": 8, "keep_checkpoints": 1}
    fuse(config(s3_address, training=training, stop={"rounds": 5}), parts=scripted_parts())
    run = RunDir.open(s3_address)
    kept = run.committed_rounds()
    assert kept[-1] == 4 and len(kept) <= 4 and 0 not in kept
    assert rounds_with_optimizer(run, kept) == [4], "one optimizer state is kept, the newest"
    assert {name for name in run.names("checkpoints") if name.startswith("round-")} == {f"round-{r}" for r in kept}
    copies = [path for path in node_files.node_folder().glob("copies/*") if path.is_dir()]
    assert 0 < len(copies) <= node_files.KEEP


def test_a_second_driver_on_s3_and_a_run_that_is_there_are_refused(s3_address):
    run = RunDir.create(s3_address, config(s3_address), {})
    from bohdi_ray.run.lease import Lease

    Lease(run).acquire()
    with pytest.raises(RunDirError, match="in use by"):
        fuse(config(s3_address), resume=True, parts=scripted_parts())


def test_engines_are_handed_addresses_and_start_and_reload_on_plain_files(s3_address, monkeypatch):
    from bohdi_ray.actors.engine_actor import EngineActor, engine_spec

    class Recorded:
        def __init__(self, spec):
            self.spec = spec

        async def start(self):
            return self._read(self.spec.path)

        async def load_weights(self, version, weights_dir):
            return version, self._read(weights_dir)

        def _read(self, weights_dir):
            assert (Path(weights_dir).parent / "probe.json").exists()
            return (Path(weights_dir) / "model.safetensors").read_text()

    monkeypatch.setattr("bohdi_ray.engines.vllm.engine.LLMEngine", Recorded)
    settings = config(s3_address)
    run = RunDir.create(s3_address, settings, {})
    for version, folder in enumerate(("checkpoints/base", "checkpoints/round-0")):
        run.write_bytes(f"{folder}/weights/model.safetensors", f"weights {version}".encode())
        run.write_bytes(f"{folder}/probe.json", b"{}")
        run.commit(folder, {})
    actor = EngineActor(engine_spec(settings.target, 0, run.address(weights_dir(0)), settings))
    assert asyncio.run(actor.start()) == "weights 0"
    assert asyncio.run(actor.load_weights(1, run.address(weights_dir(1)))) == (1, "weights 1")
