"""The pool of an evaluation: whose engines run, and when they are started anew."""

from __future__ import annotations

from dataclasses import replace

from bohdi_ray.config import VllmModel
from bohdi_ray.evaluation.program import _Engines, _one_window
from bohdi_ray.evaluation.subjects import Subject
from bohdi_ray.run.run_dir import RunDir


def made(monkeypatch):
    """What the pools are told to do, in order."""
    done = []

    class FakePool:
        def __init__(self, make, replicas, at_once, deadlines):
            done.append("new")

        def load_weights(self, version, weights_dir):
            done.append(f"load {version}")

        def stop(self):
            done.append("stop")

    monkeypatch.setattr("bohdi_ray.evaluation.asking.engine_pool.EnginePool", FakePool)
    return done


def model(name):
    return Subject(name, VllmModel(name=name, model=f"/models/{name}"))


def test_a_models_engines_answer_every_kind_of_request(monkeypatch):
    done = made(monkeypatch)
    engines = _Engines(1, print)
    one = engines.of(model("a"))
    assert engines.of(model("a")) is one and done == ["new"]
    engines.of(model("b"))
    engines.close()
    assert done == ["new", "stop", "new", "stop"]


def test_versions_of_a_run_take_turns_in_the_same_engines(monkeypatch, tmp_path):
    done = made(monkeypatch)
    run = RunDir(str(tmp_path))
    first = replace(model("t"), version=0, weights_dir="/w0", run=run)
    second = replace(first, version=3, weights_dir="/w3")
    engines = _Engines(1, print)
    for subject in (first, first, second, second):
        engines.of(subject)
    engines.of(model("other"))
    assert done == ["new", "load 3", "stop", "new"]


def test_all_models_read_the_smallest_window(tmp_path):
    def with_engine(name, window):
        one = model(name)
        engine = one.model.engine.model_copy(update={"max_model_len": window})
        return replace(one, model=one.model.model_copy(update={"engine": engine}))

    told = []
    found = _one_window([with_engine("a", 4096), with_engine("b", 1024)], told.append)
    assert [subject.window for subject in found] == [1024, 1024] and "1024 tokens" in told[0]
    _one_window([with_engine("a", 512), with_engine("b", 512)], told.append)
    assert len(told) == 1
