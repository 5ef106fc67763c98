"""The policies that are compared, the grids that tuning tries, and the settings that tuning chose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bohdi_ray.studies.simulation.fusion import Planner
from bohdi_ray.studies.simulation.planners import FixedShares, Oracle

REFERENCE = "dynabranches"
PAPER = "dynabranches_paper"
IN_SIMULATION_ONLY = ("oracle", "fixed")
TESTING = ("dynabranches", PAPER, "corrected_swblrt", "glr_thompson")


@dataclass(frozen=True)
class Entrant:
    """A policy in the comparison. `grid`: the settings that tuning tries."""

    name: str
    about: str
    bandit: dict[str, Any] = field(default_factory=dict)  # of the configuration; settings are added to it
    grid: tuple[dict[str, Any], ...] = ({},)
    challenger: bool = True  # whether it may become the default

    def planner(self, settings: dict[str, Any]) -> Planner | None:
        if self.name == "oracle":
            return Oracle()
        return FixedShares(**settings) if self.name == "fixed" else None

    def bandit_section(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {} if self.name in IN_SIMULATION_ONLY else {**self.bandit, **settings}

    @property
    def tests(self) -> bool:
        return self.name in TESTING


ENTRANTS = {
    entrant.name: entrant
    for entrant in (
        Entrant(
            REFERENCE,
            "the paper's: Thompson sampling, rebirth by SWBLRT",
            {"kind": "dynabranches"},
            tuple(
                {"window": window, "threshold": threshold}
                for window, threshold in ((20, 0.2), (20, 0.05), (20, 0.4), (10, 0.2), (40, 0.2), (40, 0.4), (60, 0.2))
            ),
            challenger=False,
        ),
        Entrant(
            PAPER,
            "the same with the paper's settings, w = 20, u = 0.2",
            {"kind": "dynabranches", "window": 20, "threshold": 0.2},
            challenger=False,
        ),
        Entrant(
            "dynabranches_no_ir",
            "the paper's ablation: no rebirth",
            {"kind": "dynabranches", "introspection": False},
        ),
        Entrant("uniform", "every arm alike, `unk` as well", {"kind": "uniform"}),
        Entrant("greedy", "largest posterior mean", {"kind": "greedy"}),
        Entrant(
            "fixed",
            "uniform for a pilot, then shares by its loss rates (simulation only)",
            grid=tuple({"pilot_rounds": r} for r in (3, 5, 8, 12)),
            challenger=False,
        ),
        Entrant(
            "discounted_thompson",
            "old evidence counts less with every credit",
            {"kind": "discounted_thompson"},
            tuple({"discount": d} for d in (0.99, 0.95, 0.9, 0.8)),
        ),
        Entrant(
            "dynamic_thompson",
            "evidence is capped per domain",
            {"kind": "dynamic_thompson"},
            tuple({"horizon": h} for h in (50, 3, 5, 10, 20)),
        ),
        Entrant(
            "sliding_window_thompson",
            "only a node's last credits count",
            {"kind": "sliding_window_thompson"},
            tuple({"horizon": h} for h in (200, 12, 25, 50)),
        ),
        Entrant(
            "aged_thompson",
            "evidence fades with every new version of the target",
            {"kind": "aged_thompson"},
            tuple({"discount": d} for d in (0.7, 0.3, 0.5, 0.9)),
        ),
        Entrant(
            "glr_thompson",
            "rebirth by a generalised likelihood-ratio test",
            {"kind": "glr_thompson"},
            ({"window": 200, "false_alarm_rate": 0.05}, {"window": 200, "false_alarm_rate": 0.5}),
        ),
        Entrant(
            "corrected_swblrt",
            "rebirth by SWBLRT with its false alarms held at a level",
            {"kind": "corrected_swblrt"},
            tuple(
                {"window": window, "false_alarm_rate": rate}
                for window, rate in ((20, 0.05), (20, 0.2), (40, 0.05), (40, 0.2))
            ),
        ),
        Entrant("oracle", "knows all skills and how the target learns (simulation only)", challenger=False),
    )
}

# What the tuning chose (docs/allocation.md, "Policies and tuning"); the settings where it is not run.
TUNED: dict[str, dict[str, Any]] = {
    "dynabranches": {"window": 60, "threshold": 0.2},
    "fixed": {"pilot_rounds": 12},
    "discounted_thompson": {"discount": 0.95},
    "dynamic_thompson": {"horizon": 3},
    "sliding_window_thompson": {"horizon": 12},
    "aged_thompson": {"discount": 0.7},
    "glr_thompson": {"window": 200, "false_alarm_rate": 0.05},
    "corrected_swblrt": {"window": 40, "false_alarm_rate": 0.05},
}


def tuned(name: str) -> dict[str, Any]:
    """The settings of a policy if no tuning is run."""
    return TUNED.get(name, ENTRANTS[name].grid[0])
