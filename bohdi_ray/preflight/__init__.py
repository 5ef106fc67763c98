"""Checks that the configuration's models cannot make alone: folders, templates, windows, the run directory, the nodes.

Called by `bohdi plan` and by `fuse` before anything starts. It only reads, loads no model and uses no network, unless
it gets a `Hub` (`bohdi plan --online`). It reports what it cannot check instead of guessing.
"""

from bohdi_ray.preflight.checks import hosted_models, local_node, preflight
from bohdi_ray.preflight.findings import Findings

__all__ = ["Findings", "hosted_models", "local_node", "preflight"]
