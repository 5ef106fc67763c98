"""Training objectives. One module for each kind in the configuration, with a class `Objective`."""

from __future__ import annotations

from bohdi_ray.config.kinds.by_kind import modules_of
from bohdi_ray.config.kinds.objectives import OBJECTIVES as KINDS
from bohdi_ray.training.objectives.objective import Objective

OBJECTIVES: dict[str, Objective] = {kind: made() for kind, made in modules_of(KINDS, __name__, "Objective").items()}
