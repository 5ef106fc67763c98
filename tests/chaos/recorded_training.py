"""The real trainer on one thread, which keeps a record of its steps and stops or dies at points that a test names.

`record_in_driver` makes this process's fusions start it. Everything else of Ray Train and DeepSpeed is as in
production.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from points import reached
from step_log import StepLog

from bohdi_ray.training import launch


def record_in_driver() -> None:
    launch.run_fit = recorded_fit


def recorded_fit(*arguments: Any) -> None:
    """Body of the training task; in this process `launch.run_fit` is the product's own."""
    from bohdi_ray.training import loop

    loop.train_loop = recorded_loop
    launch.run_fit(*arguments)


def recorded_loop(loop_config: dict[str, Any]) -> None:
    """Runs in a train worker, where `loop.train_loop` is the product's own."""
    import torch

    from bohdi_ray.training import loop
    from bohdi_ray.training.learner import Learner

    run_dir = Path(loop_config["setup"].checkpoints_dir).parent

    class RecordedLearner(Learner):
        def __init__(
            self, config: Any, weights: str, base: str, device: Any, optimizer: str | None, *others: Any, **more: Any
        ):
            super().__init__(config, weights, base, device, optimizer, *others, **more)
            self._log = StepLog(run_dir, int(os.environ.get("RANK", 0)), weights, optimizer)

        def step(self, usable: Any, rejected: Any = ()) -> Any:
            reached("stepping", run_dir)
            number = self.num_optimizer_steps  # no round is without rows, so it is the global step's, too
            result = super().step(usable, rejected)
            assert not rejected
            self._log.stepped(number, [row.example_id for row in usable], torch.distributed.get_world_size())
            return result

        def save_weights(self, folder: str, rank: int) -> None:
            super().save_weights(folder, rank)
            self._log.wrote("weights", folder)
            reached("publishing", run_dir)

        def save_optimizer(self, folder: str) -> None:
            super().save_optimizer(folder)
            self._log.wrote("optimizer", folder)
            reached("saving", run_dir)

    def one_thread(local_world_size: int) -> None:
        torch.set_num_threads(1)

    loop.Learner = RecordedLearner
    loop._set_threads = one_thread
    loop.train_loop(loop_config)
