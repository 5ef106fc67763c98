"""Evaluations during a run: which versions, what a failure or a stop ends, what is kept over a resume."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from bohdi_ray.actors.evaluation_task import VersionScores
from bohdi_ray.config.loading import parse_config
from bohdi_ray.driver.target import evaluations
from bohdi_ray.driver.target.evaluations import Evaluations
from bohdi_ray.errors import BohdiError
from bohdi_ray.rounds import RunLedger
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.state import DriverState, read_state

MODEL = {"name": "s", "model": "org/s"}


def config_with(**evaluate):
    given = {"run_dir": "/x", "sources": [MODEL], "target": {**MODEL, "name": "t"}, "stop": {"rounds": 9}}
    return parse_config(given | {"evaluate": {"every": 2, "tasks": ["arc_easy"], **evaluate}})


class Scene:
    """A run whose engines serve `served`; `task` is what the Ray task gives."""

    def __init__(self, monkeypatch, served=0, task=None, **evaluate):
        self.config = config_with(**evaluate)
        self.ledger = RunLedger(self.config, 0.0)
        self.served, self.loaded, self.asked, self.added, self.told, self.cancelled = served, [], [], [], [], []
        self.stop_asked = asyncio.Event()
        self._task = task or (lambda version: VersionScores(version, {"arc_easy": 0.5}, 3, 4))
        self.observers = SimpleNamespace(notify=lambda kind, text: self.told.append((kind, text)))
        remote = SimpleNamespace(remote=self._remote)
        monkeypatch.setattr(evaluations, "evaluate_version", SimpleNamespace(options=lambda **options: remote))
        monkeypatch.setattr(evaluations, "on_this_node", lambda: None)
        monkeypatch.setattr(evaluations.ray, "cancel", lambda reference, force: self.cancelled.append(reference))
        names = SimpleNamespace(named=lambda name: name)
        context = SimpleNamespace(names=names, run=None, client_config=None)
        table = SimpleNamespace
        self.evaluations = Evaluations(self, context, lambda: table(weights_version=self.served), self.serve)

    async def serve(self, version):
        self.loaded.append(version)
        self.served = version

    def _remote(self, version, *args):
        async def answer():
            result = self._task(version)
            return await result if asyncio.iscoroutine(result) else result

        self.asked.append(version)
        return answer()

    def add_evaluated(self, found, seconds, extra_s):
        self.added.append((found.version, extra_s))
        self.ledger.add_evaluated(found.version, found.mean, extra_s)


async def trained(seconds=0.0):
    await asyncio.sleep(seconds)
    return "metrics"


async def watched():
    await asyncio.Event().wait()


def test_every_nth_version_is_evaluated_once(monkeypatch):
    scene = Scene(monkeypatch)
    for version in (0, 0, 1, 2, 3, 4):
        scene.served = version
        assert asyncio.run(scene.evaluations.beside(trained(), version)) == "metrics"
    assert scene.asked == [0, 2, 4] and scene.loaded == [] and scene.told == []


def test_a_version_that_rehearsal_has_replaced_is_loaded_again(monkeypatch):
    scene = Scene(monkeypatch, served=0)
    asyncio.run(scene.evaluations.beside(trained(), 2))
    assert scene.loaded == [2] and scene.asked == [2]


def test_time_beyond_the_wait_for_the_trainer_is_told(monkeypatch):
    async def slow():
        await asyncio.sleep(0.2)
        return VersionScores(0, {"arc_easy": 0.5}, 3, 4)

    scene = Scene(monkeypatch, task=lambda version: slow())
    asyncio.run(scene.evaluations.beside(trained(0.05), 0))
    ((_, extra_s),) = scene.added
    assert 0.1 < extra_s < 0.2


def test_a_failure_is_told_and_its_task_ended(monkeypatch):
    def fail(version):
        raise BohdiError("no tokenizer")

    scene = Scene(monkeypatch, task=fail)
    assert asyncio.run(scene.evaluations.beside(trained(), 0)) == "metrics"
    assert scene.told == [("evaluation_failed", "version 0 could not be evaluated: no tokenizer")]
    assert len(scene.cancelled) == 1 and scene.added == []
    asyncio.run(scene.evaluations.beside(trained(), 0))
    assert len(scene.asked) == 1, "it is not tried again and again"


def test_a_stop_ends_the_last_evaluation_and_nothing_else(monkeypatch):
    async def run():
        scene = Scene(monkeypatch, task=lambda version: watched())
        asyncio.get_running_loop().call_later(0.05, scene.stop_asked.set)
        await asyncio.wait_for(scene.evaluations.of_newest(3, watched()), 5)
        return scene

    scene = asyncio.run(run())
    assert scene.asked == [3] and scene.added == [] and len(scene.cancelled) == 1


def test_the_newest_version_is_evaluated_at_the_end_whatever_its_number(monkeypatch):
    scene = Scene(monkeypatch, served=2)
    asyncio.run(scene.evaluations.of_newest(3, watched()))
    assert scene.loaded == [3] and [version for version, _ in scene.added] == [3]
    asyncio.run(scene.evaluations.of_newest(3, watched()))
    assert scene.asked == [3]


def test_nothing_is_evaluated_unless_it_is_asked_for(monkeypatch):
    scene = Scene(monkeypatch, every=0)
    asyncio.run(scene.evaluations.beside(trained(), 0))
    asyncio.run(scene.evaluations.of_newest(3, watched()))
    assert scene.asked == []


def test_scores_are_kept_over_a_resume_and_dropped_with_other_tasks():
    first = RunLedger(config_with(), 0.0)
    first.add_evaluated(0, 0.8, 0.0)
    state = first.state()
    assert RunLedger(config_with(), 0.0, state).evaluated == {0: 0.8}
    assert RunLedger(config_with(every=1), 0.0, state).evaluated == {0: 0.8}
    for other in ({"tasks": ["gpqa"]}, {"limit": 7}, {"chat": True}, {"num_fewshot": 3}):
        assert RunLedger(config_with(**other), 0.0, state).evaluated == {}


def test_scores_of_weights_that_are_gone_are_dropped(tmp_path):
    run = RunDir(str(tmp_path))
    state = {"evaluated": {"0": 0.1, "2": 0.2, "4": 0.4}, "trained": {}}
    run.place("progress.json").write_bytes(json.dumps(state).encode())
    assert read_state(run, 2).evaluated == {0: 0.1, 2: 0.2}


def test_the_best_version_by_scores_stays_on_disk():
    config = config_with(chooses_best=True)
    ledger = RunLedger(config, 0.0, DriverState())
    ledger.schedule.num_closed = ledger.schedule.num_trained = 6
    for version, mean in ((0, 0.3), (2, 0.6), (4, 0.5), (6, 0.6)):
        ledger.add_evaluated(version, mean, 0.0)
    assert ledger.best_version == 2, "the earlier one of equals"
    kept = config.training.keep_checkpoints
    gone = ledger.checkpoints_to_delete(committed=range(6), with_optimizer=range(6))
    assert 1 not in gone and len(gone) >= 5 - kept - 2, "round 1 wrote version 2"


def test_chooses_best_needs_evaluations():
    with pytest.raises(BohdiError, match="chooses_best needs evaluations"):
        config_with(every=0, chooses_best=True)
    with pytest.raises(BohdiError, match="names none"):
        config_with(tasks=[])
