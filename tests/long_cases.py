"""Cases of a parametrized test that are left to `make test-long`."""

from __future__ import annotations

from typing import Any

import pytest


def long(seconds: float, *values: Any) -> Any:
    """The case with these values, which takes so long on two slow cores."""
    return pytest.param(*values, marks=pytest.mark.long(seconds))
