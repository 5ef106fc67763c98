"""A small journal with every kind of event in it, for the tests that damage one."""

from __future__ import annotations

from functools import cache

from scripted_fusion import ScriptedFusion, make_config

from bohdi_ray.tree.manager import TreeManager

CONFIG = make_config(
    tree={"depth": 2},
    meditation={"steps": 2, "walks_per_step": 4},
    enlightenment={"steps": 1, "rows_per_step": 4},
    bandit={"window": 3, "threshold": 0.9},
)


@cache
def fusion() -> ScriptedFusion:
    """Four rounds: 12 segments, with rebirths, failures, held-out samples and failed elections in them."""
    return ScriptedFusion(TreeManager(CONFIG), 4, variety=60).run()
