import subprocess

import pytest

from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.capacity import Bundle, Node
from bohdi_ray.placement.machines import (
    described_nodes,
    free_of_ray,
    nodes_of_ray,
    ray_bundle,
    read_nodes,
    this_machine,
    trainer_sits,
)


def test_living_nodes_of_ray_become_nodes_with_names_of_their_own():
    listed = [
        {"Alive": True, "NodeName": "a", "NodeID": "11111111f", "Resources": {"CPU": 4.0, "memory": 8e9}},
        {"Alive": True, "NodeName": "a", "NodeID": "22222222f", "Resources": {"CPU": 2.0, "GPU": 1.0}},
        {"Alive": False, "NodeName": "b", "NodeID": "33333333f", "Resources": {"CPU": 4.0}},
        {"Alive": True, "NodeName": "c", "NodeID": "4", "Resources": {"GPU": 8.0, "accelerator_type:H100": 1.0}},
    ]
    assert nodes_of_ray(listed) == [
        Node("a-11111111", 4, 0, 8.0),
        Node("a-22222222", 2, 1),
        Node("c", 0, 8, gpu_name="H100"),
    ]
    chosen = [{"Alive": True, "NodeName": "a", "NodeID": f"ffffffff0{i}", "Resources": {}} for i in "12"]
    assert [node.name for node in nodes_of_ray(chosen)] == ["a-ffffffff01", "a-ffffffff02"]


def test_cards_are_counted_as_far_as_they_are_visible(monkeypatch):
    class Listed:
        stdout = "0, NVIDIA L4, 23034\n1, NVIDIA L4, 23034\n"

    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: Listed)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine = this_machine()
    assert (machine.num_gpus, machine.gpu_name, round(machine.card_gb or 0)) == (2, "NVIDIA L4", 24)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert this_machine().num_gpus == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert this_machine().num_gpus == 0


def test_without_the_drivers_tool_there_are_no_cards(monkeypatch):
    def missing(*args, **kwargs):
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    machine = this_machine()
    assert machine.num_gpus == 0 and machine.num_cpus >= 1 and (machine.memory_gb or 0) > 0.5


def test_labels_and_custom_resources_of_ray_are_taken_over():
    resources = {"CPU": 4.0, "h": 2.0, "node:10.0.0.1": 1.0, "object_store_memory": 1e9, "CPU_group_0_abc": 1.0}
    (node,) = nodes_of_ray([{"Alive": True, "NodeID": "1", "Resources": resources, "Labels": {"region": "a"}}])
    assert node.resources == {"h": 2.0} and node.labels == {"region": "a"}


def test_nodes_of_a_file_have_labels_and_resources(tmp_path):
    file = tmp_path / "nodes.yaml"
    file.write_text("- {name: a, num_cpus: 4, labels: {region: b}, resources: {h: 2}, count: 2}\n")
    assert [(node.name, node.labels, node.resources) for node in read_nodes(file)] == [
        ("a-0", {"region": "b"}, {"h": 2}),
        ("a-1", {"region": "b"}, {"h": 2}),
    ]
    for wrong in ("labels: {region: 1}", "resources: {h: many}", "resources: [h]"):
        file.write_text(f"- {{num_cpus: 4, {wrong}}}\n")
        with pytest.raises(ConfigError, match="must be a mapping of names"):
            read_nodes(file)


def test_what_is_free_leaves_out_dead_and_leaving_nodes():
    listed = [
        {"Alive": name != "dead", "NodeName": "h", "NodeID": name * 4, "Resources": {"CPU": 8.0, "GPU": 2.0, "h": 1.0}}
        for name in ("here", "dead", "goes")
    ]
    (free,) = free_of_ray(listed, {"hereherehere" + "here": {"CPU": 3.0, "GPU": 1.5}}, {"goesgoesgoesgoes": 0})
    assert (free.node.name, free.cpus, free.cards, free.resources) == ("h-herehere", 3.0, [1.0, 0.5], {"h": 0})


WORKERS = {0: {"CPU": 1.0, "GPU": 1.0}, 1: {"CPU": 1.0, "GPU": 1.0}}


@pytest.mark.parametrize(
    ("changes", "sits"),
    [
        ({}, True),
        ({"state": "PENDING"}, False),
        ({"state": "RESCHEDULING"}, False),
        ({"name": "bohdi/run/source/ada/1"}, False),
        ({"placement_group_id": "abcd02000000"}, False),  # another driver's
        ({"bundles": {0: {"CPU": 1.0, "GPU": 1.0}}}, False),
        ({"bundles": {0: {"CPU": 1.0}, 1: {"CPU": 1.0}}}, False),
    ],
)
def test_the_trainers_group_is_known_by_its_job_and_what_it_asks_for(changes, sits):
    group = {"state": "CREATED", "name": "", "placement_group_id": "abcd01000000", "bundles": WORKERS, **changes}
    assert trainer_sits({"a": group}, {"GPU": 1, "CPU": 1, "disk": 0}, 2, "01000000") is sits


def test_a_bundle_as_ray_writes_it():
    bundle = Bundle("engine", "ada", 0.5, 2, 1.5, resources={"h": 1})
    assert ray_bundle(bundle) == {"CPU": 0.5, "GPU": 2, "memory": 1.5e9, "h": 1}
    assert ray_bundle(Bundle("engine", "ada", 0)) == {}


def test_nodes_of_a_configuration_are_read_as_those_of_a_file():
    assert described_nodes([{"name": "a", "num_cpus": 4}], "nodes") == [Node("a", 4)]
    with pytest.raises(ConfigError, match="nodes, entry 0"):
        described_nodes([{"name": "a"}], "nodes")
