"""Options of the small actors of a run: tree manager, sample queue, directory.

They sit where the driver does. A run does not outlive its driver's node anyway, so they need no other node. On another
node they would be at risk: an autoscaler does not count actors without a CPU slot, so it would remove a node that holds
only such actors.
"""

from __future__ import annotations

from typing import Any

from bohdi_ray.names import RunNames
from bohdi_ray.placement.machines import on_this_node


def restarted_actor(what: str, names: RunNames | None, **options: Any) -> dict[str, Any]:
    """Ray's options of a control actor on this node. Ray restarts it however often it dies and repeats its calls. The
    actor belongs to a run, or has no name where there is no run."""
    own = names.actor(names.named(what)) if names else {}
    return {
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": -1,
        "scheduling_strategy": on_this_node(),
        **own,
        **options,
    }
