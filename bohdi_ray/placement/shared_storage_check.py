"""Whether every node of the cluster sees the same run directory. Called by fusion.py before a run is written.

Samples and weights are written by tasks on any node. Where a node has another disk at that path they would be lost, or
be waited for in vain, so such a run is refused. Nodes that join later are not asked.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bohdi_ray.config.addresses import is_address
from bohdi_ray.errors import ConfigError

ANSWER_S = 60.0  # for a node to start a worker and look


def check_all_hosts(run_dir: str, files: Sequence[str] = ()) -> None:
    """Raises ConfigError when a host of the cluster that this process has joined does not see the run directory, or one
    of these files of a corpus."""
    hosts = other_hosts(ray.nodes(), ray.get_runtime_context().get_node_id())
    check_reach(run_dir, hosts)
    for file in files:
        if not is_address(file) and (blind := _blind(file, hosts)):
            rule = f"the node {blind[0]} does not see it"
            remedy = "Put it into a folder that all nodes mount, or into an object store: s3://bucket/file.jsonl."
            raise ConfigError("questions.files", file, rule, remedy)


def other_hosts(listed: Sequence[Mapping[str, Any]], own: str) -> dict[str, str]:
    """One living node of every host but that of the node `own`, from what `ray.nodes()` returns: address to node id."""
    here = {node["NodeManagerAddress"] for node in listed if node["NodeID"] == own}
    living = {node["NodeManagerAddress"]: str(node["NodeID"]) for node in listed if node.get("Alive")}
    return {address: node for address, node in living.items() if address not in here}


def check_reach(run_dir: str, hosts: Mapping[str, str]) -> None:
    """Raises ConfigError when one of the nodes (address to node id) does not see what this process writes there.

    Nodes that do not answer in time pass: a node that is going away must not stop a run.
    """
    if is_address(run_dir) or not hosts:
        return
    with _mark(run_dir) as mark:
        blind = _blind(mark, hosts)
    if blind:
        rule = f"the node {blind[0]} does not see what this node writes there"
        remedy = "Give a folder that all nodes mount, or an address of an object store: run_dir=s3://bucket/run."
        raise ConfigError("run_dir", run_dir, rule, remedy)


def _blind(file: str, hosts: Mapping[str, str]) -> list[str]:
    """The addresses of nodes that answer that they do not see a file."""
    if not hosts:
        return []
    asked = {}
    for address, node in hosts.items():
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        asked[_sees.options(scheduling_strategy=there).remote(file)] = address
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    return [asked[answer] for answer in answered if _is_no(answer)]


@contextlib.contextmanager
def _mark(run_dir: str) -> Iterator[str]:
    """A file in the run directory; what was made for it is taken away again."""
    made = not os.path.isdir(run_dir)
    mark = os.path.join(run_dir, f".seen-{uuid.uuid4().hex}")
    try:
        os.makedirs(run_dir, exist_ok=True)
        with open(mark, "x"):
            pass
    except OSError as error:
        remedy = "Choose a folder you may write to, or correct its permissions."
        raise ConfigError("run_dir", run_dir, f"it cannot be written ({error})", remedy) from None
    try:
        yield mark
    finally:
        os.remove(mark)
        if made:
            with contextlib.suppress(OSError):
                os.rmdir(run_dir)


def _is_no(answer: Any) -> bool:
    try:
        return not ray.get(answer)
    except RayError:
        return False


@ray.remote(num_cpus=0, max_retries=0)
def _sees(mark: str) -> bool:
    folder, name = os.path.split(mark)
    return os.path.isdir(folder) and name in os.listdir(folder)  # a lookup alone may be answered by NFS's cache
