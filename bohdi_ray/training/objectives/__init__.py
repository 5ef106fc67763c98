"""What is minimised: one file per objective, found by its kind in the configuration."""

from __future__ import annotations

import importlib

from bohdi_ray.config.objectives import OBJECTIVES as KINDS
from bohdi_ray.training.objectives.objective import Objective

# Imported by name, so that a kind without a file fails here and not in a train worker.
OBJECTIVES: dict[str, Objective] = {kind: importlib.import_module(f"{__name__}.{kind}").Objective() for kind in KINDS}
