import subprocess

from bohdi_ray.machines import nodes_of_ray, this_machine
from bohdi_ray.placement import Node


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
