"""RoutedModels over scripted replicas: batching, retries, weights, renewal, and who gets to know of an error."""

import asyncio
from dataclasses import dataclass, field

import numpy as np
import pytest
from fakes import scripted_completion
from ray.exceptions import RayActorError, RayTaskError

from bohdi_ray.actors.routed_models import MOST_FAILURES, RoutedModels
from bohdi_ray.engines.routing import Replica, RoutingTable
from bohdi_ray.errors import DeadlineExceeded, EngineFailed, RemoteFailed
from bohdi_ray.records import GenerationRequest, SamplingSpec


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

    async def _run(self, requests):
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


def table(*handles, version=1, weights_version=0, model="ada"):
    some = tuple(Replica(f"{model}-{version}-{i}", handle) for i, handle in enumerate(handles))
    return RoutingTable(version, ("ada",), "target", {model: some}, weights_version)


def requests(number):
    sampling = SamplingSpec(0.7, 0.9, 100, seed=0)
    return [GenerationRequest(f"q{i}", "question", f"prompt {i}", sampling) for i in range(number)]


def ask(routing, directory=None, number=4, request_s=5.0, model="ada"):
    """Completions (or errors) of `number` requests asked at once, and the models afterwards."""

    async def work():
        models = RoutedModels(routing, directory or ScriptedDirectory(), request_s, 5.0, np.random.default_rng(0))
        asked = [models.generate(model, request) for request in requests(number)]
        answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
        await models.close()
        return answers, models

    return asyncio.run(work())


def ids(answers):
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer.request_id for answer in answers]


def test_requests_of_one_turn_travel_in_one_call_per_replica():
    one, other = ScriptedReplica(), ScriptedReplica()
    answers, _ = ask(table(one, other), number=40)
    assert ids(answers) == [f"q{i}" for i in range(40)]
    assert len(one.calls) == len(other.calls) == 1
    assert sorted(one.calls[0] + other.calls[0]) == sorted(f"q{i}" for i in range(40))
    assert 15 <= len(one.calls[0]) <= 25


def test_what_a_dead_replica_left_unanswered_is_asked_again_elsewhere():
    dead, directory = ScriptedReplica(dies=EngineFailed("gone"), answers_first=1), ScriptedDirectory()
    well = ScriptedReplica()
    answers, models = ask(table(dead, well), directory, number=8)
    assert len(ids(answers)) == 8
    assert well.calls[1:] == [dead.calls[0][1:]]  # all but the one it answered
    assert len(dead.calls) == 1
    assert directory.reported == ["ada-1-0"]
    assert set(models._in_flight.values()) == {0}


@pytest.mark.parametrize(
    "failure",
    [
        RayActorError(),
        EngineFailed("hung"),
        RayTaskError("run", "traceback", EngineFailed("hung")),
        DeadlineExceeded("a token", 1, "wait"),
    ],
)
def test_any_failure_of_an_engine_is_answered_by_another_one(failure):
    answers, _ = ask(table(ScriptedReplica(dies=failure), ScriptedReplica()))
    assert len(ids(answers)) == 4


def test_a_replica_that_ends_its_answer_early_or_takes_too_long_is_left():
    for broken in (ScriptedReplica(stops_early=True, answers_first=1), ScriptedReplica(hangs=True)):
        directory = ScriptedDirectory()
        answers, models = ask(table(broken, ScriptedReplica()), directory, request_s=0.05)
        assert len(ids(answers)) == 4
        assert directory.reported == ["ada-1-0"]
        assert set(models._in_flight.values()) == {0}


def test_a_call_is_given_up_for_its_silence_and_not_for_its_length():
    replica, directory = ScriptedReplica(), ScriptedDirectory()

    async def slowly(requests):
        for request in requests:
            for _ in range(3):
                await asyncio.sleep(0.05)
                yield value([])  # alive, but with a backlog
            yield value([scripted_completion("ada", 0, request)])

    replica.run = Method(slowly)
    answers, _ = ask(table(replica), directory, number=4, request_s=0.3)
    assert len(ids(answers)) == 4
    assert directory.reported == []


def test_an_answer_made_with_other_weights_counts_as_none():
    stale, fresh = ScriptedReplica("target", 1), ScriptedReplica("target", 2)
    routing = table(stale, fresh, model="target", weights_version=2)
    answers, models = ask(routing, number=8, model="target")
    assert {answer.weights_version for answer in answers} == {2}
    assert stale.calls
    assert set(models._in_flight.values()) == {0}


def test_a_request_that_three_engines_failed_on_raises_and_names_the_last_reason():
    directory = ScriptedDirectory()
    dying = [ScriptedReplica(dies=EngineFailed(f"death {i}")) for i in range(4)]
    answers, _ = ask(table(*dying), directory, number=1)
    assert isinstance(answers[0], EngineFailed)
    assert f"q0 to ada failed on {MOST_FAILURES} engines, last: death" in str(answers[0])
    assert len(directory.reported) == MOST_FAILURES == sum(len(replica.calls) for replica in dying)


def test_when_no_replica_is_left_the_next_table_is_waited_for_once():
    well = ScriptedReplica()
    directory = ScriptedDirectory([table(well, version=2)])
    answers, models = ask(table(ScriptedReplica(dies=RayActorError())), directory, number=5)
    assert len(ids(answers)) == 5
    assert directory.asked_for == [1]
    assert len(well.calls) == 1
    assert models._table.version == 2


def test_a_newer_table_that_still_lists_only_failed_replicas_is_waited_past():
    dead, well = ScriptedReplica(dies=RayActorError()), ScriptedReplica()
    first = table(dead)
    same = RoutingTable(2, first.sources, first.target, first.replicas, 0)
    directory = ScriptedDirectory([same, table(well, version=3)])
    answers, _ = ask(first, directory)
    assert len(ids(answers)) == 4
    assert directory.asked_for == [1, 2]


def test_a_table_without_the_model_is_renewed_too():
    directory = ScriptedDirectory([table(ScriptedReplica(), version=5)])
    answers, _ = ask(table(version=4), directory)
    assert len(ids(answers)) == 4


def test_no_newer_table_within_the_deadline_says_what_was_waited_for():
    answers, _ = ask(table(ScriptedReplica(dies=RayActorError())), number=3)
    assert all(isinstance(answer, DeadlineExceeded) for answer in answers)
    assert "ada-1-0" in str(answers[0])


def test_a_directory_that_breaks_reaches_all_who_wait():
    answers, _ = ask(table(), ScriptedDirectory(error=RuntimeError("a bug")), number=3)
    assert [str(answer) for answer in answers] == ["a bug"] * 3


@pytest.mark.parametrize("bug", [AttributeError("a bug"), RayTaskError("run", "traceback", AttributeError("a bug"))])
def test_a_bug_in_an_engine_reaches_all_who_wait_and_is_not_tried_elsewhere(bug):
    buggy, directory = ScriptedReplica(dies=bug), ScriptedDirectory()
    answers, models = ask(table(buggy), directory, number=3)
    assert all(isinstance(answer, AttributeError) for answer in answers)
    assert directory.reported == []
    assert len(buggy.calls) == 1
    assert set(models._in_flight.values()) == {0}


def test_a_refusal_for_good_by_a_remote_server_is_not_tried_elsewhere():
    refusing = ScriptedReplica(dies=RayTaskError("run", "traceback", RemoteFailed("no credit")))
    answers, _ = ask(table(refusing, refusing), number=2)
    assert all(isinstance(answer, RemoteFailed) for answer in answers)


def test_closing_ends_what_is_under_way():
    async def work():
        hanging = ScriptedReplica(hangs=True)
        models = RoutedModels(table(hanging), ScriptedDirectory(), 60, 60, np.random.default_rng(0))
        asked = asyncio.ensure_future(models.generate("ada", requests(1)[0]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await models.close()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        return len(asyncio.all_tasks())

    assert asyncio.run(work()) == 1
