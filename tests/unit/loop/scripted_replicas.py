"""Replicas, directory and quarantine for tests of RoutedModels, in process and without Ray's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
from fakes import scripted_completion

from bohdi_ray.actors.routed_models import EngineClientConfig, RoutedModels
from bohdi_ray.engines.routing import Replica, RoutingTable
from bohdi_ray.records import GenerationRequest, SamplingSpec
from bohdi_ray.run.quarantine import Case


async def value(result):
    return result


async def failing(error):
    raise error


class Method:
    """`handle.method.remote(...)`, and `.options(...)` before it, over a plain function."""

    def __init__(self, function):
        self._function = function

    def options(self, **options):
        return self

    def remote(self, *args):
        return self._function(*args)


class ScriptedReplica:
    """Answers everything at once, unless told what goes wrong from its first call on."""

    def __init__(self, model="ada", version=0, *, dies=None, answers_first=0, hangs=False, stops_early=False):
        self.calls: list[list[str]] = []
        self._model, self._version = model, version
        self._dies, self._answers_first, self._hangs, self._stops_early = dies, answers_first, hangs, stops_early
        self.run = Method(self._run)

    async def _run(self, requests, alone=False):
        self.calls.append([request.request_id for request in requests])
        answers = [scripted_completion(self._model, self._version, request) for request in requests]
        if self._dies or self._hangs or self._stops_early:
            if self._answers_first:
                yield value(answers[: self._answers_first])
            if self._hangs:
                await asyncio.Event().wait()
            if self._dies:
                yield failing(self._dies)
            return
        yield value(answers)


@dataclass
class ScriptedDirectory:
    tables: list[RoutingTable] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    asked_for: list[int] = field(default_factory=list)
    error: Exception | None = None

    def __post_init__(self):
        self.report, self.newer_than = Method(self.reported.append), Method(self._newer_than)

    async def _newer_than(self, version, wait_s):
        self.asked_for.append(version)
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return next((table for table in self.tables if table.version > version), None)


@dataclass
class ScriptedQuarantine:
    cases: list[Case] = field(default_factory=list)
    error: Exception | None = None

    def write(self, case):
        if self.error:
            raise self.error
        self.cases.append(case)
        return f"part-{case.request.request_id}"


def table(*handles, version=1, weights_version=0, model="ada", sources=("ada",)):
    some = tuple(Replica(f"{model}-{version}-{i}", handle) for i, handle in enumerate(handles))
    return RoutingTable(version, sources, "target", {model: some}, weights_version)


def requests(number):
    sampling = SamplingSpec(0.7, 0.9, 100, seed=0)
    return [GenerationRequest(f"q{i}", "question", f"prompt {i}", sampling) for i in range(number)]


def ask(routing, directory=None, number=4, request_s=5.0, model="ada", quarantine=None):
    """Completions (or errors) of `number` requests asked at once, and the models afterwards."""

    async def work():
        client_config = EngineClientConfig(
            directory or ScriptedDirectory(), quarantine or ScriptedQuarantine(), request_s, 5.0
        )
        models = RoutedModels(routing, client_config, np.random.default_rng(0))
        asked = [models.ask(model, request) for request in requests(number)]
        answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
        await models.close()
        return answers, models

    return asyncio.run(work())


def ids(answers):
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer.request_id for answer in answers]
