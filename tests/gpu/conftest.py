"""Tests that need a GPU of this machine. Their work runs in processes of its own, which leave the card as it was."""

from __future__ import annotations

import pytest

from bohdi_ray.placement.machines import this_machine


@pytest.fixture(scope="session", autouse=True)
def gpu():
    """Skips where there is none."""
    if not this_machine().num_gpus:
        pytest.skip("this machine has no GPU")
