"""An engine and a learner that take turns on one card: run as a program by test_colocate.py.

    card_turns.py BASE OUT
BASE is a published folder (version 0). Writes to OUT, as JSON, what is free of the card (GB) at each moment, and what
the engine answered and the learner's losses came to.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path


def free_gb() -> float:
    import torch

    return torch.cuda.mem_get_info()[0] / 1e9


def main(base: str, out: str) -> None:
    import torch
    import torch.distributed as dist
    from engine_support import SMALL, Running, generation
    from training_support import encoded, some_rows, tiny_config

    from bohdi_ray.config import EngineArgs, VllmModel
    from bohdi_ray.training.learner import Learner

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    weights = os.path.join(base, "weights")
    free_of_card = {"empty": free_gb()}
    arguments = EngineArgs(**{**SMALL.model_dump(), "gpu_memory_utilization": 0.4, "kv_cache_memory_bytes": None})
    engine = Running(VllmModel(name="tiny", model=weights, engine=arguments), weights, device="cuda", sleeps=True)
    free_of_card["engine awake"] = free_gb()
    ask = generation("a", temperature=0.0)
    answers = [engine.ask(ask)["a"].text]
    engine.do(engine.engine.sleep())
    free_of_card["engine asleep"] = free_gb()

    dist.init_process_group("nccl", rank=0, world_size=1)

    def start_learner() -> Learner:
        config = tiny_config(Path(base), learning_rate=1e-4, global_batch_size=8)
        return Learner(config, weights, base, torch.device("cuda:0"))

    learner, losses = start_learner(), {"turns": [], "stays": []}
    for round in range(3):
        if round:
            learner.enter_card()
        losses["turns"].append(learner.step(encoded(learner, some_rows(round, 8))).loss)
        held = torch.cuda.memory_allocated()
        learner.leave_card()
        rests = torch.cuda.memory_allocated()
    free_of_card["learner rests"] = free_gb()

    engine.do(engine.engine.wake())
    answers.append(engine.ask(ask)["a"].text)
    report = engine.do(engine.engine.load_weights(0, weights))
    answers.append(engine.ask(ask)["a"].text)
    free_of_card["engine awake again"] = free_gb()
    engine.close()
    learner = start_learner()
    losses["stays"] = [learner.step(encoded(learner, some_rows(round, 8))).loss for round in range(3)]
    with open(out, "w", encoding="utf-8") as file:
        figures = {"free_gb": free_of_card, "learner_bytes": [held, rests], "losses": losses, "answers": answers}
        json.dump({**figures, "proof": report.mean_abs_difference}, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
