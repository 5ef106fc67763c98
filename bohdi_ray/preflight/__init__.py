"""What the configuration's models cannot check alone: folders, templates, windows, the run directory, the nodes.

Called by `bohdi plan` and by `fuse` before anything starts. It only reads, loads no model and asks no network, unless
it is given a `Hub` (`bohdi plan --online`); what it cannot check it says instead of guessing.
"""

from bohdi_ray.preflight.checks import hosted_models, local_node, preflight
from bohdi_ray.preflight.findings import Findings

__all__ = ["Findings", "hosted_models", "local_node", "preflight"]
