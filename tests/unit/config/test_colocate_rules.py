"""`placement: colocate`: what it implies and refuses, who gets which share of a card, and whether memory suffices."""

import pytest

from bohdi_ray.config.changes import changes
from bohdi_ray.config.loading import parse_config
from bohdi_ray.errors import ConfigErrors
from bohdi_ray.placement.capacity import Node
from bohdi_ray.placement.memory.estimate import ModelSize
from bohdi_ray.placement.placement import place, placement_errors, resolve_gpus
from bohdi_ray.preflight import Findings
from bohdi_ray.preflight.plan import plan_text
from bohdi_ray.preflight.shared_cards import sharing_errors

SOURCE = {"name": "a", "model": "org/a"}
TARGET = {"name": "t", "model": "org/t"}
REMOTE = {"kind": "openai", "name": "r", "model": "m", "base_url": "http://host/v1"}
SIZE = ModelSize(num_params=10**9, stored_bytes=2 * 10**9, kv_numbers_per_token=None, max_positions=None)


def colocated(sources=(SOURCE,), target=TARGET, **sections):
    plain = {"run_dir": "x", "placement": "colocate", "sources": list(sources), "target": target}
    return parse_config({**plain, **sections})


def sharing(*utilizations, num_workers=1, **training):
    """The target and sources with these shares of a card's memory."""
    models = [
        {"name": f"m{i}", "model": "org/m", "engine": {"gpu_memory_utilization": u}} for i, u in enumerate(utilizations)
    ]
    return colocated(models[1:], models[0], training={"num_workers": num_workers, **training})


def test_harvest_and_training_alternate_by_default_and_nothing_else_is_refused():
    assert colocated().harvest.max_staleness == 0
    assert colocated(harvest={"max_staleness": 0}, sources=[SOURCE, REMOTE]).colocates
    separate = parse_config({"run_dir": "x", "sources": [SOURCE], "target": TARGET})
    assert (separate.placement, separate.harvest.max_staleness) == ("separate", 1)


ZERO = "training.deepspeed.zero_optimization"


def zero(**section):
    return {"training": {"deepspeed": {"zero_optimization": section}}}


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"harvest": {"max_staleness": 1}}, "harvest.max_staleness"),
        ({"training": {"save_optimizer_every": 2}}, "training.save_optimizer_every"),
        ({"training": {"resources_per_worker": {"CPU": 1, "GPU": 1}}}, "training.resources_per_worker.GPU"),
        ({"target": {**TARGET, "replicas": {"min": 1, "max": 2}}}, "target.replicas"),
        ({"target": {**TARGET, "resources": {"num_gpus": 0.5}}}, "target.resources.num_gpus"),
        ({"sources": [{**SOURCE, "engine": {"tensor_parallel_size": 2}}]}, "sources.0.engine.tensor_parallel_size"),
        ({"sources": [{**SOURCE, "engine": {"pipeline_parallel_size": 2}}]}, "sources.0.engine.pipeline_parallel_size"),
        (zero(stage=1), f"{ZERO}.stage"),
        (zero(stage=3), f"{ZERO}.stage"),
        (
            zero(stage=3, offload_optimizer={"device": "cpu"}, offload_param={"device": "cpu"}),
            f"{ZERO}.offload_param",
        ),
    ],
)
def test_what_cannot_take_turns_is_refused_and_goes_well_with_separate_cards(sections, field):
    with pytest.raises(ConfigErrors) as caught:
        colocated(**sections)
    assert [error.field for error in caught.value.errors] == [field]
    error = caught.value.errors[0]
    assert "placement: colocate" in error.rule and error.remedy
    assert not colocated(**{**sections, "placement": "separate"}).colocates


@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"save_optimizer_every": 2, "reset_optimizer": True}},
        {"target": {**TARGET, "replicas": 2, "resources": {"num_gpus": 0}}},
        zero(stage=1, offload_optimizer={"device": "cpu"}),
        zero(stage=3, offload_optimizer={"device": "cpu"}),
        {"training": {"dtype": "float32", "deepspeed": {"zero_optimization": {"stage": 1}}}},
    ],
)
def test_what_can_is_not(sections):
    assert colocated(**sections).colocates


def test_a_run_without_staleness_may_go_on_with_the_other_placement():
    before = colocated(placement="separate", harvest={"max_staleness": 0})
    assert [(change.field, change.harmless) for change in changes(before, colocated())] == [("placement", True)]


def test_a_worker_has_more_than_half_of_its_card_and_engines_the_rest_by_their_memory():
    config = resolve_gpus(sharing(0.6, 0.4), cluster_has_gpus=True)
    assert config.training.resources_per_worker["GPU"] > 0.5
    shares = [model.resources.num_gpus for model in (config.target, *config.sources)]
    assert shares[0] == pytest.approx(1.5 * shares[1], abs=1e-4)
    assert resolve_gpus(config, cluster_has_gpus=True) == config
    on_cpus = resolve_gpus(sharing(0.6, 0.4), cluster_has_gpus=False)
    assert (on_cpus.target.resources.num_gpus, on_cpus.training.resources_per_worker) == (0, {"CPU": 1})


@pytest.mark.parametrize(
    ("utilizations", "num_workers", "fits"),
    [
        ((0.5, 0.5), 1, True),
        ((0.3, 0.3, 0.4), 1, True),
        ((0.5, 0.51), 1, False),
        ((0.9, 0.9), 1, False),  # the other cards are nobody's: engines share the workers'
        ((0.9, 0.9), 2, True),
        ((0.6, 0.6, 0.6), 2, False),
        ((0.6, 0.6, 0.4, 0.4), 2, True),
    ],
)
def test_the_engines_of_a_card_have_its_memory_once(utilizations, num_workers, fits):
    nodes = [Node("a", num_cpus=16, num_gpus=4)]
    config = resolve_gpus(sharing(*utilizations, num_workers=num_workers), cluster_has_gpus=True)
    errors = placement_errors(config, nodes)
    assert (errors == []) == fits
    assert all("gpu_memory_utilization must come to at most 1" in error.remedy for error in errors)
    placed = [at for at in place(config, nodes).placed if at.cards]
    workers = [at.cards for at in placed if at.bundle.owner == "trainer"]
    assert len(set(workers)) == num_workers
    for card in {at.cards for at in placed}:
        assert card in workers
        names = {at.bundle.owner for at in placed if at.cards == card} - {"trainer"}
        assert sum(config.model(name).engine.gpu_memory_utilization for name in names) <= 1 + 1e-9


def errors_on(config, sizes=SIZE, **node):
    nodes = [Node("a", num_cpus=16, num_gpus=2, gpu_name="L4", **node)]
    names = ["m0", "m1"]
    found = sharing_errors(resolve_gpus(config, True), nodes, dict.fromkeys(names, sizes))
    return [(error.field, error.rule) for error in found]


def test_engines_leave_what_a_resting_trainer_keeps_of_the_card():
    assert errors_on(sharing(0.45, 0.45)) == []
    [(field, rule)] = errors_on(sharing(0.5, 0.5))
    assert field == "engine.gpu_memory_utilization" and "100% of its 24 GB" in rule and "1.5 GB" in rule
    assert errors_on(sharing(0.9, 0.9, num_workers=2)) == []


def test_what_sleeps_must_fit_into_main_memory():
    """Two engines of 2 GB; a worker with 2 GB of weights and 12 GB of optimizer state."""
    assert errors_on(sharing(0.4, 0.4), memory_gb=18.5) == []
    [(field, rule)] = errors_on(sharing(0.4, 0.4), memory_gb=17)
    assert field == "placement" and "18.0 GB" in rule and "17 GB" in rule
    assert errors_on(sharing(0.4, 0.4), sizes=None, memory_gb=1) == []


def test_the_plan_shows_both_turns_of_every_card():
    config = sharing(0.45, 0.45)
    nodes = [Node("a", num_cpus=16, num_gpus=1, gpu_name="L4", memory_gb=64)]
    text = plan_text(config, Findings(sizes={"m0": SIZE, "m1": SIZE}), nodes)
    # 0.9 * 24 + 1.5; two engines' 1.5 and the worker's 2 + 4 + 12 + 4 while AdamW steps + 1.5
    assert "card 1 of a: harvest 23.1 of 24 GB; training about 26.5 GB" in text
    assert "asleep on a: 18.0 GB of 64 GB of main memory" in text
    assert "placement colocate" in text
