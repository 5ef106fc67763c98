"""A run by address: refused with a secret, pickled, shown without one; what a missing bucket says."""

from __future__ import annotations

import pickle

import pytest

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import ConfigError, RunDirError
from bohdi_ray.observe.metrics import Metrics
from bohdi_ray.run.run_dir import RunDir, checkpoint_dir
from bohdi_ray.training.weights.checkpoints import committed_rounds, round_dir


@pytest.mark.parametrize("query", ["", "?endpoint_override=http://127.0.0.1:9&region=x"])
def test_an_address_with_credentials_is_refused_before_anything_is_asked(query):
    with pytest.raises(ConfigError, match="credentials come from the environment") as caught:
        RunDir(f"s3://AKIA:hunter2@bucket/run{query}")
    assert "hunter2" not in str(caught.value) and "hunter2" not in str(pickle.loads(pickle.dumps(caught.value)))


def test_addresses_of_what_a_run_holds_name_it_in_any_process(s3_address: str, config: FusionConfig):
    run = RunDir.create(s3_address, config, {})
    assert run.address() == s3_address and run.address("checkpoints") == s3_address.replace("/x?", "/x/checkpoints?")
    assert round_dir(run.address("checkpoints"), 3) == run.address(checkpoint_dir(3))
    again = pickle.loads(pickle.dumps(run))
    again.write_bytes("tree/segment-00000000", b"x")
    assert run.names("tree") == ["segment-00000000"] and not run.is_local
    assert committed_rounds(run.address("checkpoints")) == []


def test_a_run_that_is_there_and_a_bucket_that_is_not_are_refused(s3_address: str, config: FusionConfig):
    RunDir.create(s3_address, config, {})
    with pytest.raises(ConfigError, match="already holds a run"):
        RunDir.create(s3_address, config, {})
    with pytest.raises(RunDirError, match="holds no run"):
        RunDir.open(s3_address.replace("/x?", "/y?"))
    elsewhere = s3_address.replace("s3://bucket-", "s3://no-such-bucket-")
    with pytest.raises(ConfigError, match=r"run_dir.*cannot be written.*NO_SUCH_BUCKET"):
        RunDir.create(elsewhere, config, {})


def test_an_export_counts_from_its_commit_on(s3_address: str):
    run = RunDir(s3_address)
    run.write_bytes("target/model.safetensors", b"w")
    assert not run.is_exported("target")
    run.commit("target", {})
    assert run.is_exported("target")


def test_figures_are_in_the_store_from_each_flush_on(s3_address: str):
    run = RunDir(s3_address)
    metrics = Metrics(run)
    metrics.log("a")
    metrics.flush()
    metrics.log("b")  # a driver killed here loses this line, and no other
    with Metrics(run) as after:
        after.log("c")
    kinds = [line.split(b'"kind": "')[1][:1] for line in run.read_bytes("metrics.jsonl").splitlines()]
    assert kinds == [b"a", b"c"]
