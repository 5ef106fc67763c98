"""The real parts of a fusion: vLLM engines, DeepSpeed training, weights from disk, and the checks before a start.

Only wiring: each function turns the configuration into a Ray actor, a Ray task or a call of the room that knows how.
"""

from __future__ import annotations

from bohdi_ray.startup import Parts


def real_parts() -> Parts:
    """Parts of a fusion with real models."""
    raise NotImplementedError
