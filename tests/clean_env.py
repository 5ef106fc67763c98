"""The environment of a program that has nothing to do with the Ray of the process that starts it."""

from __future__ import annotations

import os


def clean_env(**changes: str) -> dict[str, str]:
    """This process's environment without Ray's variables, which say where its own cluster is and how to reach it."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("RAY_")}, **changes}
