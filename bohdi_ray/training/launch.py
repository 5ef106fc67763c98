"""Starts the one Ray Train run of a fusion and watches it. Called by the driver.

`fit()` blocks, so it runs in a Ray task: the driver stays light, sees the end of the task as soon as it comes, and can
end the run for sure by cancelling the task, because the controller and its workers die with the task that owns them.
Ray Train makes its own placement group; nothing here wraps it in another.
"""

from __future__ import annotations

import os
import uuid
from typing import Any

import ray

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.addresses import below
from bohdi_ray.errors import DeadlineExceeded, RowsRejected, TrainingFailed
from bohdi_ray.names import RunNames
from bohdi_ray.placement.machines import on_this_node
from bohdi_ray.placement.placement import resolve_gpus
from bohdi_ray.run.filesystem import place_of
from bohdi_ray.run.lease import Claim

QUEUE_TIMEOUT_S = 60.0


class TrainerHandle:
    """The driver's handle to the running training run."""

    def __init__(self, fit: Any, queue: Any, train_step_s: float):
        self._fit = fit  # ObjectRef of the task that runs fit()
        self._queue = queue
        self._train_step_s = train_step_s

    def raise_if_dead(self) -> None:
        """Raises TrainingFailed if the run has ended with an error or before the queue allowed it; RowsRejected if the
        queue has refused a round for its rows. Returns at once."""
        ready, _ = ray.wait([self._fit], timeout=0)
        if ready:
            self._result()
            status = ray.get(self._queue.status.remote(), timeout=QUEUE_TIMEOUT_S)
            if status.refused is not None:
                raise RowsRejected(status.refused.text())
            if not status.ends or status.num_rows_queued:
                raise TrainingFailed("the training run has ended before its last round; see the train workers' logs")

    def raise_if_stuck(self) -> None:
        """Raises DeadlineExceeded if steps are waiting and there was no progress for `deadlines.train_step_s`."""
        status = ray.get(self._queue.status.remote(), timeout=QUEUE_TIMEOUT_S)
        if status.busy and status.idle_s > self._train_step_s:
            raise DeadlineExceeded(
                f"progress of the trainer (queue: {status.num_rows_queued} rows, attempt {status.attempt})",
                status.idle_s,
                "look at the train workers' logs, or raise deadlines.train_step_s",
            )

    def join(self, timeout_s: float) -> None:
        """Waits for the run to end by itself (after `queue.finish`). Raises TrainingFailed or DeadlineExceeded."""
        ready, _ = ray.wait([self._fit], timeout=timeout_s)
        if not ready:
            raise DeadlineExceeded("the trainer to end", timeout_s, "look at the train workers' logs")
        self._result()

    def stop(self, timeout_s: float) -> None:
        """Ends the run: after the step under way if that takes at most `timeout_s`, else at once."""
        ray.wait([self._queue.stop.remote()], timeout=min(timeout_s, QUEUE_TIMEOUT_S))
        ready, _ = ray.wait([self._fit], timeout=timeout_s)
        if not ready:
            ray.cancel(self._fit, force=True)

    def _result(self) -> None:
        try:
            ray.get(self._fit, timeout=QUEUE_TIMEOUT_S)
        except ray.exceptions.RayError as error:
            raise TrainingFailed(f"the training run has ended: {_root_cause(error)}") from error


def start_trainer(config: FusionConfig, queue: Any, checkpoints_dir: str, claim: Claim | None = None) -> TrainerHandle:
    """Starts training on `queue`, after the newest committed round in `checkpoints_dir`; `base` must exist.

    Rounds that were harvested earlier are already in the queue. With `claim` nothing is committed for a driver that has
    lost its lease.
    """
    status = ray.get(queue.status.remote(), timeout=QUEUE_TIMEOUT_S)
    name = RunNames.of(config.run_dir).named("training")
    options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": on_this_node(), "name": name}
    # One call a process: what Ray Train leaves behind, a controller of 400 MB among it, ends with its owner.
    fit = ray.remote(max_calls=1, **options)(run_fit).remote(
        config, queue, checkpoints_dir, claim, status.attempt, max(config.stop.rounds, status.next_round)
    )
    return TrainerHandle(fit, queue, config.deadlines.train_step_s)


def worker_resources(config: FusionConfig, cluster_has_gpus: bool) -> dict[str, float]:
    """Resources of one train worker: as configured, plus a GPU, or its share, if the cluster has GPUs and the
    configuration names none."""
    return resolve_gpus(config, cluster_has_gpus).training.resources_per_worker


def run_fit(
    config: FusionConfig, queue: Any, checkpoints_dir: str, claim: Claim | None, last_attempt: int, most_rounds: int
) -> None:
    """Body of the task: one TorchTrainer for all rounds. Imports torch here, where it is used."""
    # `ray.train.report` holds the ranks until the controller's next poll; its default, 2 s, would delay the next round.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
    from ray.data import ExecutionOptions
    from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from bohdi_ray.training.feed.dataset import RankDataset
    from bohdi_ray.training.feed.encoder import EncoderSpec
    from bohdi_ray.training.loop import LoopConfig, train_loop

    training = config.training
    resources = worker_resources(config, ray.cluster_resources().get("GPU", 0) > 0)
    use_gpu = resources.get("GPU", 0) > 0
    num_steps = config.most_steps(most_rounds)
    encoder = EncoderSpec(config, checkpoints_dir)
    datasets = {
        f"train_{rank}": RankDataset(queue, encoder, training.num_workers, rank, num_steps, last_attempt)
        for rank in range(training.num_workers)
    }
    execution = ExecutionOptions(preserve_order=True, verbose_progress=False)
    ray_train = place_of(below(checkpoints_dir, ".ray_train"))
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={"setup": LoopConfig(config, queue, checkpoints_dir, claim)},
        torch_config=TorchConfig(
            backend="nccl" if use_gpu else "gloo", timeout_s=max(60, int(config.deadlines.train_step_s))
        ),
        scaling_config=ScalingConfig(
            num_workers=training.num_workers,
            use_gpu=use_gpu,
            resources_per_worker=resources,
            label_selector=training.label_selector or None,
        ),
        run_config=RunConfig(
            name=f"fusion-{uuid.uuid4().hex[:8]}",  # another one at every start: where to go on is the queue's affair
            # Workers share cores with engines: OpenMP threads that wait by spinning would starve everybody.
            worker_runtime_env={"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}},
            storage_path=ray_train.path,
            storage_filesystem=None if ray_train.is_local else ray_train.filesystem,
            failure_config=FailureConfig(
                max_failures=training.max_failures, controller_failure_limit=max(3, training.max_failures)
            ),
        ),
        datasets=datasets,
        # Every rank has a Dataset of its own: nothing is split, nothing held back or dropped to equalise.
        dataset_config=DataConfig(datasets_to_split=[], execution_options=execution),
    )
    trainer.fit()


def _root_cause(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[-1] if text else type(error).__name__
