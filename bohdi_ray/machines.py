"""The nodes a configuration may be placed on: this machine, those in a file, those of a running Ray.

Called by the command line and before a run starts. It only reads: nothing is started and nothing reserved.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bohdi_ray.errors import ConfigError
from bohdi_ray.placement import Node

NODE_KEYS = ("name", "num_cpus", "num_gpus", "memory_gb", "gpu_name", "gpu_memory_gb", "count")
THIS_MACHINE = "this machine"
KNOCK_S = 10.0
EXAMPLE = "Write a list of nodes like {name: a, num_cpus: 96, num_gpus: 8, memory_gb: 1000, gpu_name: H100, count: 2}."


def this_machine() -> Node:
    """This machine, without asking Ray or torch."""
    cards = _cards()
    names = {name for name, _ in cards}
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Node(
        name=THIS_MACHINE,
        num_cpus=len(os.sched_getaffinity(0)),
        num_gpus=len(cards),
        memory_gb=round(pages / 1e9, 1),
        gpu_name=names.pop() if len(names) == 1 else None,
        gpu_memory_gb=min(memory for _, memory in cards) if cards else None,
    )


def _cards() -> list[tuple[str, float]]:
    """Name and memory (GB) of each visible NVIDIA card; none where the driver's tool is missing or fails."""
    query = ["nvidia-smi", "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    cards = []
    for line in lines:
        index, name, mebibytes = (part.strip() for part in line.split(","))
        if visible is None or index in visible.split(","):
            cards.append((name, float(mebibytes) * 2**20 / 1e9))
    return cards


def read_nodes(path: Path) -> list[Node]:
    """Nodes from a YAML list; `count` repeats one. Raises ConfigError."""
    try:
        entries = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError("--nodes", str(path), f"cannot be read: {error}", EXAMPLE) from None
    if not isinstance(entries, list) or not entries:
        raise ConfigError("--nodes", str(path), "holds no list of nodes", EXAMPLE)
    return [node for i, entry in enumerate(entries) for node in _nodes_of(entry, i)]


def _nodes_of(entry: Any, i: int) -> list[Node]:
    field = f"--nodes, entry {i}"
    if not isinstance(entry, dict) or "num_cpus" not in entry:
        raise ConfigError(field, entry, "must be a mapping with num_cpus", EXAMPLE)
    unknown = sorted(str(key) for key in set(entry) - set(NODE_KEYS))
    if unknown:
        raise ConfigError(field, unknown[0], "there is no such key", f"Known here: {', '.join(NODE_KEYS)}.")
    numbers = {key: entry.get(key) for key in ("num_cpus", "num_gpus", "memory_gb", "gpu_memory_gb", "count")}
    for key, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            raise ConfigError(f"{field}, {key}", value, "must be a number, 0 or more", EXAMPLE)
    name, count = str(entry.get("name", f"node{i}")), int(entry.get("count", 1))
    return [
        Node(
            name=name if count == 1 else f"{name}-{j}",
            num_cpus=entry["num_cpus"],
            num_gpus=int(entry.get("num_gpus") or 0),
            memory_gb=entry.get("memory_gb"),
            gpu_name=entry.get("gpu_name"),
            gpu_memory_gb=entry.get("gpu_memory_gb"),
        )
        for j in range(count)
    ]


def knock(address: str) -> None:
    """Raises ConnectionError when nothing answers at `host:port`, which Ray itself takes minutes to say.

    Other forms of address (`auto`, `ray://…`) are left to Ray.
    """
    if (place := re.fullmatch(r"([\w.-]+):(\d+)", address)) is None:
        return
    try:
        socket.create_connection((place[1], int(place[2])), timeout=KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"nothing answers there: {error}") from None


def unreachable(field: str, address: str | None, error: Exception) -> ConfigError:
    """What to say when a running Ray cannot be joined, from what `ray.init` raised."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    remedy = "Check the address, that the cluster is up, and RAY_AUTH_MODE; `bohdi plan --nodes FILE` needs no cluster."
    return ConfigError(field, address, f"cannot be reached ({reason})", remedy)


def nodes_of_ray(listed: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Living nodes from what `ray.nodes()` returns."""
    living = [node for node in listed if node.get("Alive")]
    hosts = [str(node.get("NodeName") or "node") for node in living]
    return [
        Node(
            # Several of Ray's nodes may share a host.
            name=host if hosts.count(host) == 1 else f"{host}-{node['NodeID'][:8]}",
            num_cpus=node["Resources"].get("CPU", 0),
            num_gpus=int(node["Resources"].get("GPU", 0)),
            memory_gb=round(node["Resources"].get("memory", 0) / 1e9, 1) or None,
            # Ray counts a resource "accelerator_type:H100" where it knows the card.
            gpu_name=next((r.split(":", 1)[1] for r in node["Resources"] if r.startswith("accelerator_type:")), None),
        )
        for node, host in zip(living, hosts, strict=True)
    ]
