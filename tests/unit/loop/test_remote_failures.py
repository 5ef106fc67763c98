"""What a remote server refuses or fails is never a request's death: nothing is quarantined, and the reason is kept."""

import pytest
from fakes import scripted_completion
from ray.exceptions import RayTaskError
from scripted_replicas import Method, ScriptedDirectory, ScriptedQuarantine, ScriptedReplica, ask, failing, table, value

from bohdi_ray.actors.engine_actor import make_engine_actor
from bohdi_ray.actors.routed_models import MOST_REMOTE_FAILURES
from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import RemoteFailed, RequestRefused


def refusing(request_id, error):
    """A replica that fails whenever this request is in the call, after it has answered the others."""
    replica = ScriptedReplica()

    async def run(requests, alone=False):
        replica.calls.append([request.request_id for request in requests])
        yield value([])
        yield value([scripted_completion("ada", 0, r) for r in requests if r.request_id != request_id])
        if request_id in replica.calls[-1]:
            yield failing(error)

    replica.run = Method(run)
    return replica


@pytest.mark.parametrize("said", ["HTTP 403: no", "HTTP 413: too large", "failed 7 times, last: HTTP 500: broken"])
def test_a_request_that_a_server_fails_whoever_asks_fails_alone_with_the_servers_words(said):
    quarantine = ScriptedQuarantine()
    replicas = [refusing("q1", RayTaskError("run", "traceback", RemoteFailed(said))) for _ in range(6)]
    directory = ScriptedDirectory([table(*replicas[i:], version=i + 1) for i in range(1, 6)])
    answers, models = ask(table(replicas[0]), directory, number=4, quarantine=quarantine)
    assert [answer.error is None for answer in answers] == [True, False, True, True]
    assert isinstance(answers[1].error, RequestRefused) and said in str(answers[1].error)
    assert quarantine.cases == []
    assert sum("q1" in call for replica in replicas for call in replica.calls) == MOST_REMOTE_FAILURES
    assert set(models._in_flight.values()) == {0}


def test_innocent_requests_outlive_a_source_that_is_down_for_a_while():
    down = [ScriptedReplica(dies=RemoteFailed("HTTP 403: no credit")) for _ in range(2)]
    tables = [table(down[1], version=2), table(ScriptedReplica(), version=3)]
    quarantine = ScriptedQuarantine()
    answers, _ = ask(table(down[0]), ScriptedDirectory(tables), number=4, quarantine=quarantine)
    assert all(answer.error is None for answer in answers) and quarantine.cases == []


@pytest.mark.parametrize(("policy", "judges"), [("leader", True), ("others", True)])
def test_a_remote_source_knows_whether_it_will_be_asked_for_labels(monkeypatch, policy, judges):
    from bohdi_ray.actors import engine_actor

    made = []
    monkeypatch.setattr(engine_actor.ray, "remote", lambda **options: lambda kind: Method(made.append))
    far = [{"kind": "openai", "name": n, "model": "m", "base_url": "http://none/v1"} for n in ("a", "b")]
    target = {"name": "t", "model": "./m"}
    config = FusionConfig.model_validate(
        {"run_dir": "/none", "sources": far, "target": target, "judge": {"kind": policy}}
    )
    make_engine_actor(config.sources[0], "a-0", 0, None, engine_actor.EngineGroup(), config)
    assert made[0].judges is judges and made[0].model is config.sources[0]
