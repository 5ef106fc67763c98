"""A Ray session for as long as something runs: the cluster's, or one of our own on this machine."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Iterator
from typing import Any

import ray

from bohdi_ray.engines.vllm.ipc_folder import clear_left_folders
from bohdi_ray.errors import BohdiError
from bohdi_ray.placement.cluster_token import knock_and_show_token as knock
from bohdi_ray.placement.machines import check_mode, not_started, unreachable

# Of a session of our own. Ray's control store keeps a record of every task, by default of the last 100,000: 300 MB over
# 500 rounds, in a session without a dashboard to show them.
# Ray ends workers after 1 s without a task, and starting one takes longer than a bundle of tickets that answers fast.
SESSION_SETTINGS = {"task_events_max_num_task_in_gcs": 10_000, "idle_worker_killing_time_threshold_ms": 30_000}
SPARE_SLOTS = 2  # CPU slots of a session of our own for Ray Data's reads, the training task and harvest tasks


@contextlib.contextmanager
def ray_session(address: str | None, num_cpus: float) -> Iterator[None]:
    """A Ray session: an existing one, a cluster's, or a new one on this machine, which ends with the block; it has
    CPU slots for `num_cpus` and for small tasks.

    Raises ConfigError if the cluster cannot be joined, or could not connect back to this process.
    """
    if ray.is_initialized():
        yield
        return
    joins = bool(address or os.environ.get("RAY_ADDRESS"))
    if joins:
        try:
            knock(address or os.environ["RAY_ADDRESS"])
            ray.init(address=address, log_to_driver=False)
        except BohdiError:
            raise
        except Exception as error:  # Ray raises all kinds, a bare Exception when it takes too long
            field = "--address" if address else "RAY_ADDRESS"
            raise unreachable(field, address or os.environ["RAY_ADDRESS"], error) from None
    else:
        # Engines and trainer share this machine's cores; the slots only have to admit them all.
        slots = math.ceil(num_cpus) + SPARE_SLOTS
        quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        try:
            # "local" also where another Ray runs on this machine.
            ray.init("local", num_cpus=slots, _system_config=SESSION_SETTINGS, **quiet)
        except Exception as error:  # Ray raises a bare Exception when its processes are not up in time
            ray.shutdown()
            raise BohdiError(not_started(error)) from error
    try:
        if joins:
            check_mode()
        yield
    finally:
        ray.shutdown()
        clear_left_folders()  # of engines on this machine that were killed
