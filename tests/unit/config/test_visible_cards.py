"""CUDA_VISIBLE_DEVICES as CUDA reads it: indexes, UUIDs and their beginnings, slices, and what ends the list."""

import subprocess

import pytest

from bohdi_ray.placement.machines import this_machine
from bohdi_ray.placement.visible_cards import listed_cards, listed_slices, visible_cards, wants_slices

CARDS = listed_cards(
    "1, NVIDIA L4, 23034, GPU-bbbb1111-0000\n0, NVIDIA H100 80GB HBM3, 81559, GPU-aaaa0000-0000\n"
    "2, NVIDIA L4, 23034, GPU-aaaa2222-0000\n"
)
SLICES = listed_slices(
    "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa0000-0000)\n"
    "  MIG 1g.10gb     Device  0: (UUID: MIG-1111-1)\n"
    "  MIG 3g.40gb     Device  1: (UUID: MIG-2222-2)\n"
    "GPU 1: NVIDIA L4 (UUID: GPU-bbbb1111-0000)\n"
)


@pytest.mark.parametrize(
    ("variable", "shown"),
    [
        (None, [0, 1, 2]),
        ("0", [0]),
        ("2,0", [2, 0]),
        ("0, 1", [0, 1]),
        (" 1 ,2 ", [1, 2]),
        ("GPU-bbbb1111-0000", [1]),
        ("GPU-bbbb", [1]),
        ("GPU-bbbb,GPU-aaaa2222-0000", [1, 2]),
        ("gpu-bbbb", []),
        ("GPU-aaaa", []),  # fits two cards
        ("GPU-cccc,0", []),
        ("", []),
        ("-1", []),
        ("0,-1,1", [0]),
        ("none", []),
        ("NoDevFiles", []),
        ("0,7,1", [0]),
        ("0,0", []),
        ("1,GPU-bbbb", []),  # the same card twice
        ("1a", [1]),
    ],
)
def test_cards_are_shown_up_to_the_first_entry_that_names_none(variable, shown):
    assert visible_cards(variable, CARDS, SLICES) == [CARDS[i] for i in shown]


def test_slices_of_a_card_are_cards_of_their_own():
    shown = visible_cards("MIG-2222-2,MIG-1111", CARDS, SLICES)
    assert [(card.name, round(card.memory_gb)) for card in shown] == [
        ("NVIDIA H100 80GB HBM3", 43),
        ("NVIDIA H100 80GB HBM3", 11),
    ]
    assert wants_slices("MIG-2222-2") and not wants_slices("0") and not wants_slices(None)


@pytest.mark.parametrize(("variable", "num"), [("GPU-aaaa0000-0000,GPU-bbbb1111-0000", 2), ("0, 1", 2), ("-1", 0)])
def test_this_machine_counts_them_so(monkeypatch, variable, num):
    class Listed:
        stdout = "0, NVIDIA L4, 23034, GPU-aaaa0000-0000\n1, NVIDIA L4, 23034, GPU-bbbb1111-0000\n"

    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: Listed)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert this_machine().num_gpus == num


def test_a_tool_that_tells_no_uuids_does_not_hide_the_cards_that_were_named():
    plain = listed_cards("0, NVIDIA L4, 23034\n1, NVIDIA L4, 23034\n")
    assert len(visible_cards("GPU-a,GPU-b", plain)) == 2 and len(visible_cards("GPU-a,GPU-a", plain)) == 0
    assert visible_cards("0, 1", plain) == plain


@pytest.mark.parametrize(
    ("printed", "names", "memory"),
    [
        ("0, NVIDIA GB10, [N/A], GPU-a\n", ["NVIDIA GB10"], None),
        ("0, NVIDIA A100, [Insufficient Permissions], GPU-a\n", ["NVIDIA A100"], None),
        ("0, H100, 81559, GPU-a\n1, X, [Not Supported], GPU-b\n", ["H100", "X"], None),
        ("WARNING: infoROM is corrupted at gpu 0000:00:1E.0\n0, A, 40536, GPU-a\n", ["A"], 42.5),
        ("\n0, NVIDIA RTX 6000, Ada, 49140, GPU-a\n", ["NVIDIA RTX 6000, Ada"], 51.5),
        ("0, A, 40536\n", ["A"], 42.5),
        ("No devices were found\n", [], None),
    ],
)
def test_a_line_that_cannot_be_read_hides_no_card(monkeypatch, printed, names, memory):
    class Listed:
        stdout = printed

    assert [card.name for card in listed_cards(printed)] == names
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: Listed)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine = this_machine()
    assert machine.num_gpus == len(names)
    assert machine.gpu_memory_gb == (memory and pytest.approx(memory, abs=0.1))
