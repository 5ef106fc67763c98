"""Requests that may be what kills engines: asked alone, and set aside only when that engine dies too."""

from fakes import scripted_completion
from scripted_replicas import (
    Method,
    ScriptedDirectory,
    ScriptedQuarantine,
    ScriptedReplica,
    ask,
    failing,
    ids,
    table,
    value,
)

from bohdi_ray.actors.routed_models import MOST_DEATHS
from bohdi_ray.errors import EngineFailed, RequestQuarantined

KILLER = "q1"


def killed_by(killer, *, alone_too=True):
    """A replica that every call dies of which has `killer` in it."""
    replica = ScriptedReplica()
    replica.alone = []

    async def run(requests, alone=False):
        replica.calls.append([request.request_id for request in requests])
        replica.alone.append(alone)
        if alone:
            yield value([])
        if killer in replica.calls[-1] and (alone_too or not alone):
            yield failing(EngineFailed(f"died of {replica.calls[-1]}"))
        yield value([scripted_completion("ada", 0, request) for request in requests])

    replica.run = Method(run)
    return replica


def test_a_request_that_was_in_two_deaths_is_asked_alone_and_set_aside_only_when_that_engine_dies_too():
    quarantine = ScriptedQuarantine()
    replicas = [killed_by(KILLER) for _ in range(8)]
    answers, _ = ask(table(*replicas), number=4, quarantine=quarantine)
    assert [isinstance(answer, RequestQuarantined) for answer in answers] == [False, True, False, False]
    assert answers[1].part == "part-q1"
    (case,) = quarantine.cases
    assert (case.request.request_id, case.model, case.weights_version) == (KILLER, "ada", 0)
    assert [death.alone for death in case.deaths] == [False] * MOST_DEATHS + [True]
    assert len({death.replica_id for death in case.deaths}) == MOST_DEATHS + 1
    assert all("died of" in death.error for death in case.deaths)
    for replica in replicas:
        for call, alone in zip(replica.calls, replica.alone, strict=True):
            assert len(call) == 1 or not alone
    assert sum(KILLER in call for replica in replicas for call in replica.calls) == MOST_DEATHS + 1


def test_a_request_that_only_shared_its_engines_with_the_guilty_one_is_answered_alone():
    quarantine = ScriptedQuarantine()
    replicas = [killed_by("q0", alone_too=False) for _ in range(6)]
    answers, _ = ask(table(*replicas), number=4, quarantine=quarantine)
    assert ids(answers) == ["q0", "q1", "q2", "q3"]
    assert not quarantine.cases
    assert any(alone for replica in replicas for alone in replica.alone)


def test_what_is_held_at_the_gate_of_an_engine_that_dies_is_not_blamed():
    """More deaths than would quarantine it, but it was in none of these engines."""
    quarantine = ScriptedQuarantine()

    def held_until_death():
        replica = ScriptedReplica()

        async def run(requests, alone=False):
            replica.calls.append(alone)
            yield value(None)
            yield failing(EngineFailed("gone"))

        replica.run = Method(run)
        return replica

    holding, well = [held_until_death() for _ in range(6)], ScriptedReplica()
    directory = ScriptedDirectory([table(well, version=2)])
    answers, _ = ask(table(*holding), directory, number=1, quarantine=quarantine)
    assert ids(answers) == ["q0"]
    assert [call for replica in holding for call in replica.calls] == [False] * 6
    assert not quarantine.cases


def test_a_request_let_in_after_it_was_held_is_blamed_again():
    def admitted_then_dies():
        replica = ScriptedReplica()

        async def run(requests, alone=False):
            yield value(None)
            yield value([])
            yield failing(EngineFailed("gone"))

        replica.run = Method(run)
        return replica

    quarantine = ScriptedQuarantine()
    answers, _ = ask(table(*(admitted_then_dies() for _ in range(3))), number=1, quarantine=quarantine)
    assert isinstance(answers[0], RequestQuarantined)


def test_a_quarantine_that_cannot_be_written_reaches_who_waits():
    quarantine = ScriptedQuarantine(error=OSError("disk full"))
    answers, _ = ask(table(*(killed_by("q0") for _ in range(4))), number=1, quarantine=quarantine)
    assert isinstance(answers[0], OSError)


def test_one_that_was_to_be_alone_in_an_engine_that_was_dead_before_is_not_blamed():
    quarantine = ScriptedQuarantine()
    dead, well = [ScriptedReplica() for _ in range(6)], ScriptedReplica()
    for replica in dead:
        replica.run = Method(dead_from_the_start(replica))
    directory = ScriptedDirectory([table(well, version=2)])
    answers, _ = ask(table(*dead), directory, number=1, quarantine=quarantine)
    assert ids(answers) == ["q0"]
    assert sorted(alone for replica in dead for alone in replica.calls) == [False] * MOST_DEATHS + [True] * 4
    assert not quarantine.cases


def dead_from_the_start(replica):
    async def run(requests, alone=False):
        replica.calls.append(alone)
        yield failing(EngineFailed("gone"))

    return run
