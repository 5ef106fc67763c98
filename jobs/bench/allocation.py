"""Benchmark of allocation: `python jobs/bench/allocation.py [WORLD]... [--seeds N]`; no Ray, no model, about a minute.

The same program as `bohdi simulate` (docs/allocation.md). The last line is one JSON object: `policies` -> name ->
`mean_skill`, `worst_skill`, `samples_to_90` and further figures, each with mean, low and high; `worlds` with the same
by world; `verdict`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from smoke import parse

from bohdi_ray.studies.simulation.program import Request, simulate
from bohdi_ray.studies.simulation.report import as_json, tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="*")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--policies")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    smallest = {"worlds": ["weak_branch"], "seeds": 2, "policies": "dynabranches,uniform", "rounds": 2, "processes": 1}
    arguments = vars(parse(parser, **smallest))
    del arguments["smoke"]
    report, _ = simulate(
        Request(**{**arguments, "worlds": tuple(arguments["worlds"]), "overrides": tuple(arguments["overrides"])})
    )
    print(tables(report))
    print(as_json(report))


if __name__ == "__main__":
    main()
