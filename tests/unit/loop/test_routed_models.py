"""RoutedModels over scripted replicas: batching, retries, weights, renewal, and who gets to know of an error."""

import asyncio

import numpy as np
import pytest
from fakes import scripted_completion
from ray.exceptions import RayActorError, RayTaskError
from scripted_replicas import (
    Method,
    ScriptedDirectory,
    ScriptedQuarantine,
    ScriptedReplica,
    ask,
    ids,
    requests,
    table,
    value,
)

from bohdi_ray.actors.routed_models import MOST_UNANSWERED, EngineClientConfig, RoutedModels
from bohdi_ray.engines.routing import RoutingTable
from bohdi_ray.errors import DeadlineExceeded, EngineFailed, EngineRetired, RemoteFailed, SourceLeftOut


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


def test_a_replica_that_takes_no_more_calls_is_left_without_blame():
    """More of them than deaths that would make the requests suspects, and not one is reported."""
    retired = [ScriptedReplica(dies=EngineRetired("no further calls")) for _ in range(6)]
    directory, quarantine = ScriptedDirectory(), ScriptedQuarantine()
    answers, models = ask(table(*retired, ScriptedReplica()), directory, quarantine=quarantine)
    assert len(ids(answers)) == 4
    assert directory.reported == [] and quarantine.cases == [] and models._deaths == {}


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


def test_a_request_that_three_engines_left_unanswered_without_dying_raises_and_names_the_last_one():
    directory, quarantine = ScriptedDirectory(), ScriptedQuarantine()
    broken = [ScriptedReplica(stops_early=True) for _ in range(4)]
    answers, _ = ask(table(*broken), directory, number=1, quarantine=quarantine)
    assert isinstance(answers[0], EngineFailed)
    assert f"{MOST_UNANSWERED} engines ended their answers early" in str(answers[0])
    assert directory.reported[-1] in str(answers[0]) and "q0 to ada" in str(answers[0])
    assert len(directory.reported) == MOST_UNANSWERED == sum(len(replica.calls) for replica in broken)
    assert not quarantine.cases


def test_a_source_that_is_left_out_is_not_waited_for():
    dead = ScriptedReplica(dies=RayActorError())
    left = table(version=2, sources=("bob",))
    directory = ScriptedDirectory([left])
    answers, models = ask(table(dead, sources=("ada", "bob")), directory, number=3)
    assert all(isinstance(answer, SourceLeftOut) and answer.source == "ada" for answer in answers)
    assert models.present().sources == ("bob",)
    # And at once where it is known.
    directory = ScriptedDirectory()
    answers, _ = ask(left, directory, number=2)
    assert all(isinstance(answer, SourceLeftOut) for answer in answers) and not directory.asked_for


def test_a_piece_of_work_keeps_the_sources_it_began_with():
    async def work():
        directory = ScriptedDirectory([table(version=2, sources=("bob",))])
        client_config = EngineClientConfig(directory, ScriptedQuarantine(), 5, 5)
        dead = table(ScriptedReplica(dies=RayActorError()), sources=("ada", "bob"))
        models = RoutedModels(dead, client_config, np.random.default_rng(0))
        before = models.present()
        with pytest.raises(SourceLeftOut):
            await before.ask("ada", requests(1)[0])
        await models.close()
        return before.sources, models.present().sources, before.target

    assert asyncio.run(work()) == (("ada", "bob"), ("bob",), "target")


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


def test_what_a_remote_server_failed_for_good_waits_for_what_the_pools_make_of_it():
    refusing = ScriptedReplica(dies=RayTaskError("run", "traceback", RemoteFailed("no credit")))
    directory = ScriptedDirectory([table(ScriptedReplica(), version=2)])
    answers, _ = ask(table(refusing), directory, number=2)
    assert len(ids(answers)) == 2
    assert directory.reported == ["ada-1-0"]


def test_closing_ends_what_is_under_way():
    async def work():
        hanging = ScriptedReplica(hangs=True)
        client_config = EngineClientConfig(ScriptedDirectory(), ScriptedQuarantine(), 60, 60)
        models = RoutedModels(table(hanging), client_config, np.random.default_rng(0))
        asked = asyncio.ensure_future(models.ask("ada", requests(1)[0]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await models.close()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        return len(asyncio.all_tasks())

    assert asyncio.run(work()) == 1
