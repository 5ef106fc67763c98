"""vLLM's own stats leave its process as Ray's metrics, with labels that tell models and replicas apart."""

from __future__ import annotations

import time

import pytest
from engine_support import generation, vllm_model
from scraping import scraped

from bohdi_ray.actors.engine_actor import EngineActor
from bohdi_ray.engines.spec import EngineSpec
from bohdi_ray.names import RunNames

REPORTED_S = 45.0


@pytest.mark.timeout(240)
def test_the_stats_of_two_replicas_are_told_apart(ray_session, tiny_model_dir):
    ray = ray_session
    names = RunNames("watched")
    folder = str(tiny_model_dir("llama"))
    replicas = [names.engine("tiny", f"tiny-{number}", is_target=False) for number in range(2)]
    actors = [
        ray.remote(num_cpus=0, max_concurrency=100)(EngineActor)
        .options(**names.actor(replica))
        .remote(EngineSpec(model=vllm_model(folder), path=folder))
        for replica in replicas
    ]
    try:
        ray.get([actor.start.remote() for actor in actors], timeout=120)
        decoded = {}
        for replica, actor, number in zip(replicas, actors, (1, 3), strict=True):
            stream = actor.run.options(num_returns="streaming").remote([generation(str(i)) for i in range(number)])
            answers = [completion for part in stream for completion in ray.get(part)]
            assert len(answers) == number
            decoded[replica] = sum(answer.num_tokens for answer in answers)
        told: dict[str, float] = {}
        deadline = time.monotonic() + REPORTED_S
        while told != decoded:
            assert time.monotonic() < deadline, (told, decoded)
            time.sleep(1)
            # Other tests' engines on the same Ray may still be told beside these two.
            told = {
                sample.labels["ReplicaId"]: sample.value
                for sample in scraped()
                if sample.name == "ray_vllm_generation_tokens_total" and sample.labels["model_name"] == "tiny"
            }
    finally:
        for actor in actors:
            ray.get(actor.stop.remote(), timeout=60)
            ray.kill(actor)
