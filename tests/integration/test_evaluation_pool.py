"""Engines of an evaluation that die, do not start, or die of a request."""

import pytest
import ray
from scripted_token_engine import POISON, ScriptedTokenEngine, reply_to

from bohdi_ray.config import DeadlineConfig
from bohdi_ray.engines.token_requests import ContinuationRequest
from bohdi_ray.errors import BohdiError, ConfigError, EngineFailed
from bohdi_ray.evaluation.asking.answer_store import AnswerStore
from bohdi_ray.evaluation.asking.asker import Asker, identified
from bohdi_ray.evaluation.asking.engine_pool import EnginePool
from bohdi_ray.run.filesystem import place_of

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]
DEADLINES = DeadlineConfig(start_s=40, placement_s=10, request_s=20, idle_s=10)
REQUESTS = [identified(ContinuationRequest("", (100 + i, 2), (i, 3))) for i in range(60)]


@pytest.fixture
def pool(tmp_path):
    made = []

    def make(number):
        made.append(number)
        actor = ray.remote(num_cpus=0.1, max_concurrency=100, max_restarts=0)(ScriptedTokenEngine)
        return actor.remote(str(tmp_path))

    pools = []

    def of(num_replicas, at_once=4):
        pools.append(EnginePool(make, num_replicas, at_once, DEADLINES))
        return pools[-1], made

    yield of
    for one in pools:
        one.stop()


def asked(folder):
    lines = [line.split() for line in (folder / "asked").read_text().splitlines()]
    return [request for _, request in lines], {process for process, _ in lines}


def answered(pool, folder, requests=REQUESTS):
    asker = Asker(pool, AnswerStore(place_of(str(folder / "store"))), lambda done, total: None)
    return asker.answers(requests)


def check(answers, requests=REQUESTS):
    assert {key: value[0] for key, value in answers.items()} == {r.request_id: reply_to(r).logprob for r in requests}


def test_two_replicas_share_the_requests(pool, tmp_path):
    (tmp_path / "together").touch()
    engines, made = pool(2)
    check(answered(engines, tmp_path))
    ids, processes = asked(tmp_path)
    assert sorted(ids) == sorted(r.request_id for r in REQUESTS) and len(processes) == len(made) == 2
    answered(engines, tmp_path)
    assert len(asked(tmp_path)[0]) == 60, "everything was in the store"


def test_an_engine_that_dies_in_the_middle_is_replaced_and_only_what_it_held_is_asked_again(pool, tmp_path):
    (tmp_path / "die-7").touch()
    engines, made = pool(1)
    check(answered(engines, tmp_path))
    ids, processes = asked(tmp_path)
    assert len(made) == len(processes) == 2 and engines.num_replaced == 1
    assert 60 < len(ids) <= 60 + 3 * 4, "at most three calls of four requests were under way"


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_a_request_that_kills_engines_is_asked_alone_and_then_named(pool, tmp_path, num_replicas):
    poison = identified(ContinuationRequest("", (POISON, 2), (1, 3)))
    engines, made = pool(num_replicas)
    with pytest.raises(BohdiError, match=f"request {poison.request_id} .* ended 3 engines, the last one alone"):
        answered(engines, tmp_path, [*REQUESTS[:30], poison])
    assert len(made) >= 3
    # What was answered before is kept, and the rest is answered without it.
    check(answered(engines, tmp_path))


def test_an_engine_that_never_starts_ends_the_evaluation(pool, tmp_path):
    (tmp_path / "no-start").touch()
    engines, made = pool(1)
    with pytest.raises(EngineFailed, match="no start"):
        answered(engines, tmp_path)
    assert len(made) == 3


def test_a_refused_model_is_not_tried_again(pool, tmp_path):
    (tmp_path / "refused").touch()
    engines, made = pool(1)
    with pytest.raises(ConfigError, match="is refused"):
        answered(engines, tmp_path)
    assert len(made) == 1
