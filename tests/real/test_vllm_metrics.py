"""Two engines as Ray's actors: vLLM's own stats leave them as Ray's metrics, and they die with their owners."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from pathlib import Path

import psutil
import pytest
from engine_support import generation, vllm_model
from scraping import scraped

from bohdi_ray.actors.engine_actor import EngineActor, actor_options
from bohdi_ray.engines.spec import EngineSpec
from bohdi_ray.names import RunNames
from bohdi_ray.placement.pools.placement_groups import EngineGroup

REPORTED_S = 45.0
BOARD = Path(__file__).parents[2] / "cluster" / "grafana" / "bohdi_ray.json"
# vLLM leaves a counter out until it counts for the first time, and here nothing is preempted.
NOT_TOLD = {"ray_vllm_num_preemptions_total"}
LONG = "Why is the sky blue, and why is it red in the evening? " * 8  # fills a block of the KV cache


def asked_by_the_board() -> dict[str, set[str]]:
    """Of each of vLLM's metrics in the dashboard's queries, the labels that the queries use."""
    asked: dict[str, set[str]] = defaultdict(set)
    for panel in json.loads(BOARD.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", []):
            labels = {name for group in re.findall(r"by \(([\w, ]+)\)", target["expr"]) for name in group.split(", ")}
            for name in re.findall(r"ray_vllm_\w+", target["expr"]):
                asked[name] |= {*labels - {"le"}, "SessionName", *(["le"] if name.endswith("_bucket") else [])}
    return asked


@pytest.mark.long(50)
@pytest.mark.timeout(240)
def test_replicas_tell_their_stats_as_the_dashboard_asks_for_them_and_die_with_their_owners(
    ray_session, tiny_model_dir
):
    ray = ray_session
    names = RunNames("watched")
    model = vllm_model(tiny_model_dir("llama"))
    replicas = [names.engine("tiny", f"tiny-{number}", is_target=False) for number in range(2)]
    actors = [
        ray.remote(**actor_options(model, EngineGroup(actor=names.actor(replica))))(EngineActor).remote(
            EngineSpec(model=model, path=model.model)
        )
        for replica in replicas
    ]
    try:
        ray.get([actor.start.remote() for actor in actors], timeout=120)
        decoded = {}
        # The second one gets the same prompt twice, one after the other: it finds it in its cache.
        batches = ([["a"]], [["a", "b", "c"], ["d"]])
        for replica, actor, batches_of_one in zip(replicas, actors, batches, strict=True):
            answers = []
            for batch in batches_of_one:
                requests = [generation(name, LONG) for name in batch]
                stream = actor.run.options(num_returns="streaming").remote(requests)
                answers += [completion for part in stream for completion in ray.get(part)]
            assert len(answers) == sum(map(len, batches_of_one))
            decoded[replica] = sum(answer.num_tokens for answer in answers)
        told: dict[str, float] = {}
        labels: dict[str, set[str]] = {}
        deadline = time.monotonic() + REPORTED_S
        while told != decoded:
            assert time.monotonic() < deadline, (told, decoded)
            time.sleep(1)
            # Other tests' engines on the same Ray may still be told beside these two.
            own = [sample for sample in scraped() if sample.labels.get("ReplicaId") in replicas]
            told = {
                sample.labels["ReplicaId"]: sample.value
                for sample in own
                if sample.name == "ray_vllm_generation_tokens_total" and sample.labels["model_name"] == "tiny"
            }
            labels |= {sample.name: set(sample.labels) for sample in own}
        asked = asked_by_the_board()
        assert set(asked) - set(labels) == NOT_TOLD
        assert all(asked[name] <= labels[name] for name in set(asked) - NOT_TOLD)
        own_pids = [
            actor.__ray_call__.remote(lambda self: [p.pid for p in self._engine._processes]) for actor in actors
        ]
        pids = ray.get(own_pids, timeout=30)
        assert all(pids)
        engines = [psutil.Process(pid) for own in pids for pid in own]
    finally:
        for actor in actors:
            ray.kill(actor)
    _, alive = psutil.wait_procs(engines, timeout=20)
    assert not alive
