"""Options of the small actors of a run: tree manager, sample queue, directory.

They sit where the driver does. A run does not outlive its driver's node anyway, so no other node can take one of them
away; and an autoscaler, to which actors without a CPU slot count for nothing, would take the node below one of them.
"""

from __future__ import annotations

from typing import Any

from bohdi_ray.names import RunNames
from bohdi_ray.placement.machines import on_this_node


def restarted_actor(what: str, names: RunNames | None, **options: Any) -> dict[str, Any]:
    """Ray's options of a small actor on this node that Ray restarts however often it dies and whose calls it repeats:
    one of a run, or without a name where there is no run around it."""
    own = names.actor(names.named(what)) if names else {}
    return {
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": -1,
        "scheduling_strategy": on_this_node(),
        **own,
        **options,
    }
