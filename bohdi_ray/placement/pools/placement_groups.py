"""Room for engines: a placement group for every replica, made before its actor and removed after it.

A group is asked for only where capacity.py's rule says that it takes nothing the trainer needs, and on exactly those
nodes. Where there is no room, a group that no current node can hold is requested anyway: Ray's autoscaler sees the
demand, and the trainer's room stays free while Ray Train restarts its workers. Once such a group has found a new node
it has done its work, and the rule is asked again.

Called by the driver's pools. Nothing here outlives the driver: Ray removes what is left of a job that has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray._private import state as ray_state
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import NoRoom
from bohdi_ray.observe.events import Notify
from bohdi_ray.placement.capacity import NODE_ID, Bundle, Free, Sit, Wait, admit
from bohdi_ray.placement.machines import free_of_ray, ray_bundle, trainer_sits
from bohdi_ray.placement.placement import harvest_bundle, trainer_bundles

LOOK_EVERY_S = 1.0
SETTLE_S = 5.0  # for Ray to make a group that has room
FREED_S = 0.3  # for Ray to count what a removed group held
TELL_EVERY_S = 30.0


@dataclass(slots=True)
class EngineGroup:
    """The room of one replica; none for an engine that takes nothing of the cluster."""

    group: PlacementGroup | None = None
    captures: bool = False  # what the actor starts sits in the group too: vLLM's workers for several stages
    actor: dict[str, str] = field(default_factory=dict)  # Ray's options with its name

    def options(self) -> dict[str, Any]:
        """Ray's options for the actor."""
        if self.group is None:
            return dict(self.actor)
        strategy = PlacementGroupSchedulingStrategy(
            self.group, placement_group_bundle_index=0, placement_group_capture_child_tasks=self.captures
        )
        return {"scheduling_strategy": strategy, **self.actor}

    def give_back(self) -> None:
        """Removes the group, and with it what still runs there. May be called again."""
        group, self.group = self.group, None
        if group is not None:
            _remove(group)


class PlacementGroups:
    """Reserves placement groups, one at a time. Async; every method runs on the driver's event loop."""

    def __init__(self, config: FusionConfig, notify: Notify):
        self._trainer, self._training = trainer_bundles(config), config.training
        self._harvest = harvest_bundle(config)
        self._placement_s = config.deadlines.placement_s
        self._notify = notify
        self._lock = asyncio.Lock()
        self._needed: set[_Line] = set()  # those in want of room whose pools have fewer than they must
        self.trainer_has_started = False  # until then, waiting for room counts for no deadline: the trainer comes first

    async def take(self, name: str, bundles: Sequence[Bundle], grows: bool) -> EngineGroup:
        """Room for one replica, called `name` in Ray.

        Waits for: room beside what the trainer needs, at most `deadlines.placement_s`; a message every 30 s says what
        is missing. With `grows` the harvest's own share is left free too. Raises NoRoom.
        """
        if not any(ray_bundle(bundle) for bundle in bundles):
            return EngineGroup()
        line = _Line(name, bundles)
        began = counts_from = told = time.monotonic()
        try:
            while True:
                async with self._lock:
                    verdict = await self._look(line, [self._harvest] if grows else [])
                    if isinstance(verdict, EngineGroup):
                        return verdict
                if not grows:
                    self._needed.add(line)
                now = time.monotonic()
                if not self.trainer_has_started:
                    counts_from = now
                needs = " and ".join(str(bundle) for bundle in bundles)
                beside = " beside what the trainer needs" if verdict.ask else ", and the trainer waits for room itself"
                free = f"free{beside}: {'; '.join(verdict.free) or 'no node'}"
                if now - counts_from > self._placement_s:
                    raise NoRoom(
                        f"capacity for engine {name}, which needs {needs} on one node ({free})",
                        self._placement_s,
                        "`bohdi plan --address` says what does not fit; add nodes, or raise deadlines.placement_s",
                    )
                if now - told > TELL_EVERY_S:
                    told = now
                    text = f"engine {name} has waited {now - began:.0f} s for capacity: it needs {needs}; {free}"
                    self._notify("waits_for_room", text, engine=name, needs=needs, free=list(verdict.free))
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            self._needed.discard(line)
            line.leave()

    async def is_short(self) -> bool:
        """Whether an engine that must be there, or the trainer, finds no room."""
        free, trainer_sits = await asyncio.to_thread(self._view)
        trainer_lacks = not trainer_sits and isinstance(admit(self._trainer, free, []), Wait)
        return bool(self._needed) or (trainer_lacks and self.trainer_has_started)

    async def have_room(self, bundles: Sequence[Bundle]) -> bool:
        """Whether one more replica that the load alone asks for would find room now."""
        free, trainer_sits = await asyncio.to_thread(self._view)
        return isinstance(admit(bundles, free, [*([] if trainer_sits else self._trainer), self._harvest]), Sit)

    async def _look(self, line: _Line, kept: Sequence[Bundle]) -> EngineGroup | Wait:
        if line.has_found_a_node():
            line.leave()
            await asyncio.sleep(FREED_S)
        free, trainer_sits = await asyncio.to_thread(self._view)
        verdict = admit(line.bundles, free, [*([] if trainer_sits else self._trainer), *kept])
        ids = {node.node.name: node.node.labels[NODE_ID] for node in free}
        if isinstance(verdict, Sit):
            line.leave()
            group = await _sit(line.name, line.bundles, [ids[name] for name in verdict.nodes])
            return group or Wait(True, tuple(map(str, free)))  # there is room: Ray was slow, or somebody faster
        if verdict.ask:
            line.stand(frozenset(ids.values()))
        else:
            line.leave()
        return verdict

    def _view(self) -> tuple[list[Free], bool]:
        """What is free on every node, and whether the trainer's workers have their room."""
        available = ray_state.available_resources_per_node()
        leaving = ray_state.state.get_draining_nodes()
        per_worker, num_workers = self._training.resources_per_worker, self._training.num_workers
        job_id = ray.get_runtime_context().get_job_id()
        sits = trainer_sits(placement_group_table(), per_worker, num_workers, job_id)
        return free_of_ray(ray.nodes(), available, leaving), sits


class _Line:
    """One replica that waits for a node that is not there yet, and is in Ray's demand meanwhile."""

    def __init__(self, name: str, bundles: Sequence[Bundle]):
        self.name, self.bundles = name, bundles
        self._group: PlacementGroup | None = None
        self._known: frozenset[str] = frozenset()  # nodes it may not take: those that were there

    def stand(self, nodes: frozenset[str]) -> None:
        if self._group is not None and nodes == self._known:
            return
        self.leave()
        self._known = nodes
        others = {NODE_ID: f"!in({','.join(sorted(nodes))})"} if nodes else {}
        self._group = placement_group(
            [ray_bundle(bundle) for bundle in self.bundles],
            strategy="PACK",
            name=f"{self.name}/waits",
            bundle_label_selector=[{**bundle.labels, **others} for bundle in self.bundles],
        )

    def has_found_a_node(self) -> bool:
        return self._group is not None and _is_created(self._group)

    def leave(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            _remove(group)


async def _sit(name: str, bundles: Sequence[Bundle], nodes: Sequence[str]) -> EngineGroup | None:
    """A group on the nodes of these ids, one a bundle; None when Ray does not make it within seconds."""
    parts, selectors = [], []
    for bundle, node in zip(bundles, nodes, strict=True):
        # vLLM wants its workers' cards in bundles of one each where they sit on several nodes.
        cards = round(bundle.num_gpus) if len(bundles) > 1 else 1
        first = ray_bundle(bundle) | ({"GPU": bundle.num_gpus / cards} if bundle.num_gpus else {})
        parts += [first, *([{"GPU": 1.0}] * (cards - 1))]
        selectors += [{**bundle.labels, NODE_ID: node}] * cards
    group = EngineGroup(placement_group(parts, name=name, bundle_label_selector=selectors), captures=len(bundles) > 1)
    assert group.group is not None
    deadline = time.monotonic() + SETTLE_S
    try:
        while time.monotonic() < deadline:
            if _is_created(group.group):
                kept, group = group, EngineGroup()
                return kept
            await asyncio.sleep(0.02)
        return None
    finally:
        group.give_back()


def _is_created(group: PlacementGroup) -> bool:
    return placement_group_table(group).get("state") == "CREATED"


def _remove(group: PlacementGroup) -> None:
    with contextlib.suppress(RayError, ValueError):  # Ray has gone, and the group with it
        remove_placement_group(group)
