"""The nodes on which a configuration may be placed: this machine, those in a file, or those of a running Ray cluster.

Called by the command line and before a run starts. It only reads: nothing is started and nothing reserved.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.capacity import Bundle, Free, Node
from bohdi_ray.placement.visible_cards import QUERY, listed_cards, listed_slices, visible_cards, wants_slices

NODE_KEYS = ("name", "num_cpus", "num_gpus", "memory_gb", "gpu_name", "gpu_memory_gb", "labels", "resources", "count")
THIS_MACHINE = "this machine"
KNOCK_S = 10.0
MODE_S = 30.0
EXAMPLE = "Write a list of nodes like {name: a, num_cpus: 96, num_gpus: 8, memory_gb: 1000, gpu_name: H100, count: 2}."


def this_machine() -> Node:
    """This machine's resources, without Ray or torch."""
    cards = _cards()
    names = {name for name, _ in cards}
    memory = [gb for _, gb in cards if gb is not None]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Node(
        name=THIS_MACHINE,
        num_cpus=len(os.sched_getaffinity(0)),
        num_gpus=len(cards),
        memory_gb=round(pages / 1e9, 1),
        gpu_name=names.pop() if len(names) == 1 else None,
        # Of cards of which one does not tell, the smallest is not known.
        gpu_memory_gb=min(memory) if cards and len(memory) == len(cards) else None,
    )


def _cards() -> list[tuple[str, float | None]]:
    """Name and memory (GB; None: not known) of each visible NVIDIA GPU; empty if nvidia-smi is missing or fails."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        cards = listed_cards(_printed(QUERY))
        slices = listed_slices(_printed(("nvidia-smi", "-L"))) if wants_slices(visible) else []
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    return [(card.name, card.memory_gb) for card in visible_cards(visible, cards, slices)]


def _printed(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout


def read_nodes(path: Path) -> list[Node]:
    """Nodes from a YAML list; `count` repeats one. Raises ConfigError."""
    try:
        entries = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError("--nodes", str(path), f"cannot be read: {error}", EXAMPLE) from None
    if not isinstance(entries, list) or not entries:
        raise ConfigError("--nodes", str(path), "holds no list of nodes", EXAMPLE)
    return described_nodes(entries, "--nodes")


def described_nodes(entries: Sequence[Any], where: str) -> list[Node]:
    """Nodes as a person described them, in a file or under `nodes:`. Raises ConfigError."""
    return [node for i, entry in enumerate(entries) for node in _nodes_of(entry, f"{where}, entry {i}", i)]


def _nodes_of(entry: Any, field: str, i: int) -> list[Node]:
    if not isinstance(entry, dict) or "num_cpus" not in entry:
        raise ConfigError(field, entry, "must be a mapping with num_cpus", EXAMPLE)
    unknown = sorted(str(key) for key in set(entry) - set(NODE_KEYS))
    if unknown:
        raise ConfigError(field, unknown[0], "this key does not exist", f"Known here: {', '.join(NODE_KEYS)}.")
    numbers = {key: entry.get(key) for key in ("num_cpus", "num_gpus", "memory_gb", "gpu_memory_gb", "count")}
    for key, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            raise ConfigError(f"{field}, {key}", value, "must be a number, 0 or more", EXAMPLE)
    _check_labels_and_resources(entry, field)
    name, count = str(entry.get("name", f"node{i}")), int(entry.get("count", 1))
    return [
        Node(
            name=name if count == 1 else f"{name}-{j}",
            num_cpus=entry["num_cpus"],
            num_gpus=int(entry.get("num_gpus") or 0),
            memory_gb=entry.get("memory_gb"),
            gpu_name=entry.get("gpu_name"),
            gpu_memory_gb=entry.get("gpu_memory_gb"),
            labels=entry.get("labels") or {},
            resources=entry.get("resources") or {},
        )
        for j in range(count)
    ]


def _check_labels_and_resources(entry: dict[str, Any], field: str) -> None:
    for key, kind, rule in (("labels", str, "texts"), ("resources", int | float, "numbers")):
        value = entry.get(key)
        if value is None:
            continue
        if not isinstance(value, dict) or not all(
            isinstance(name, str) and isinstance(one, kind) and not isinstance(one, bool) for name, one in value.items()
        ):
            remedy = (
                "Write {region: a} for labels, {a100: 4} for custom resources; quote labels that look like numbers."
            )
            raise ConfigError(f"{field}, {key}", value, f"must be a mapping of names to {rule}", remedy)


def knock(address: str) -> None:
    """Raises ConnectionError if nothing answers at `host:port`; Ray itself would take minutes to find out.

    Other forms of address (`auto`, `ray://…`) are left to Ray.
    """
    if (place := re.fullmatch(r"([\w.-]+):(\d+)", address)) is None:
        return
    try:
        socket.create_connection((place[1], int(place[2])), timeout=KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"nothing answers there: {error}") from None


def unreachable(field: str, address: str | None, error: Exception) -> ConfigError:
    """The error for a running Ray that cannot be joined, from the exception of `ray.init`."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    remedy = "Check the address, that the cluster is up, and RAY_AUTH_MODE; `bohdi plan --nodes FILE` needs no cluster."
    return ConfigError(field, address, f"cannot be reached ({reason})", remedy)


def not_started(error: Exception) -> str:
    """The error for a Ray that does not start on this machine, from the exception of `ray.init`."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return (
        f"Ray did not start on this machine: {reason.rstrip('.')}. Try again when the machine is less busy, and see "
        "whether memory, /dev/shm and the disk of /tmp have room; or start Ray yourself (`ray start --head`) and name "
        "it with --address. Its logs are in /tmp/ray/session_latest/logs, or below RAY_TMPDIR"
    )


def check_mode() -> None:
    """Raises ConfigError if this process requires a token and the cluster has none, a combination that Ray does not
    reject.

    Then the head's calls to this process fail, Ray concludes that nothing refers to its actors any more, and ends them
    as they start. In the opposite case Ray refuses the connection.
    """
    import ray

    if not _token_mode():
        return
    asked = ray.remote(num_cpus=0)(_token_mode).remote()
    try:
        theirs = ray.get(asked, timeout=MODE_S)
    except ray.exceptions.RayError:  # in time, or at all: the run itself says what is the matter with such a cluster
        return
    if not theirs:
        raise ConfigError(
            "RAY_AUTH_MODE",
            os.environ.get("RAY_AUTH_MODE"),
            "the cluster was started without a token, and cannot connect back to a process that requires one",
            "export RAY_AUTH_MODE=disabled, or start the cluster with RAY_AUTH_MODE=token.",
        )


def _token_mode() -> bool:
    """Whether Ray wants a token in this process, as it read when it was imported."""
    from ray._raylet import AuthenticationMode, get_authentication_mode  # type: ignore[attr-defined]

    return get_authentication_mode() == AuthenticationMode.TOKEN


def on_this_node() -> Any:
    """Ray's scheduling strategy for tasks and actors that must run on the same node as this process."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def free_of_ray(
    listed: Sequence[Mapping[str, Any]], available: Mapping[str, Mapping[str, float]], leaving: Collection[str]
) -> list[Free]:
    """The free resources of living nodes, from `ray.nodes()` and the available resources by node id; nodes that Ray is
    draining are left out."""
    living = [node for node in listed if node.get("Alive")]
    return [
        Free.rest(node, available.get(entry["NodeID"], {}))
        for entry, node in zip(living, nodes_of_ray(living), strict=True)
        if entry["NodeID"] not in leaving
    ]


def nodes_of_ray(listed: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Living nodes from what `ray.nodes()` returns; Ray labels each with its id."""
    living = [node for node in listed if node.get("Alive")]
    hosts = [str(node.get("NodeName") or "node") for node in living]
    # Names tell nodes apart: eight digits of an id do, unless somebody chose the ids.
    digits = 8 if len({node["NodeID"][:8] for node in living}) == len(living) else None
    return [
        Node(
            # Several of Ray's nodes may share a host.
            name=host if hosts.count(host) == 1 else f"{host}-{node['NodeID'][:digits]}",
            num_cpus=node["Resources"].get("CPU", 0),
            num_gpus=int(node["Resources"].get("GPU", 0)),
            memory_gb=round(node["Resources"].get("memory", 0) / 1e9, 1) or None,
            # Ray counts a resource "accelerator_type:H100" where it knows the card.
            gpu_name=next((r.split(":", 1)[1] for r in node["Resources"] if r.startswith("accelerator_type:")), None),
            labels=node.get("Labels") or {},
            resources={name: n for name, n in node["Resources"].items() if _is_custom(name)},
        )
        for node, host in zip(living, hosts, strict=True)
    ]


def _is_custom(name: str) -> bool:
    """Whether a resource is a custom one, not one that Ray counts itself."""
    own = name in ("CPU", "GPU", "memory", "object_store_memory") or name.startswith(("node:", "accelerator_type:"))
    return not own and "_group_" not in name  # Ray's names for what a placement group holds


def trainer_sits(
    table: Mapping[str, Mapping[str, Any]], per_worker: Mapping[str, float], num_workers: int, job_id: str
) -> bool:
    """Whether the placement group that Ray Train creates for its workers is allocated now.

    The group has no name. It is identified by its job, which is at the end of its id, and by its bundles.
    """
    asked = {name: float(amount) for name, amount in per_worker.items() if amount}
    return any(
        group["state"] == "CREATED"
        and not group["name"]
        and group["placement_group_id"].endswith(job_id)
        and [{k: v for k, v in bundle.items() if v} for bundle in group["bundles"].values()] == [asked] * num_workers
        for group in table.values()
    )


def ray_bundle(bundle: Bundle) -> dict[str, float]:
    """A bundle in Ray's format."""
    asked = {"CPU": bundle.num_cpus, "GPU": bundle.num_gpus, "memory": float(int(bundle.memory_gb * 1e9))}
    return {name: amount for name, amount in {**asked, **bundle.resources}.items() if amount}
