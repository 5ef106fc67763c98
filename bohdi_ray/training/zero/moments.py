"""Releases AdamW's moments under DeepSpeed, so that the next step begins with new ones. Needs torch.

Called by the learner where a round starts AdamW afresh. DeepSpeed 0.19.8 keeps them in two places: the state of the
optimizer it wraps, and, under ZeRO 1 and 2 from the first step on, views of them in every parameter's `_hp_mapping`.
Clearing only the state would keep the old moments (8 bytes per parameter) in memory next to the new ones for the rest
of the run, and readers of the views would get those of the first round.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


def release_moments(zero_optimizer: Any, parameters: Iterable[torch.nn.Parameter]) -> None:
    """Forgets moments and step count of DeepSpeed's optimizer, and frees their memory. Float32 masters stay.

    `parameters`: the model's, low precision. The next step makes moments of zero and counts from 1, as a new AdamW
    does; under ZeRO 1 and 2 it links the parameters to them again.
    """
    zero_optimizer.optimizer.state.clear()
    if getattr(zero_optimizer, "swap_optimizer", False):  # on NVMe: what is there is no longer read back
        zero_optimizer.optimizer_swapper.purge_state()
    for parameter in parameters:
        fragment = getattr(parameter, "_hp_mapping", None)  # absent under ZeRO-3; None where another rank owns it
        if fragment is not None:
            fragment.optim_fragment = None
    if hasattr(zero_optimizer, "_hp_optimizer_states_linked"):
        zero_optimizer._hp_optimizer_states_linked = False
