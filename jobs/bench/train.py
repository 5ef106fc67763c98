"""Tokens per second of our training loop against a bare DeepSpeed loop on the same batches; latency from put to step.

Ours: SampleQueue actor, Ray Data, Ray Train, all rounds put beforehand, so that what the queue costs is in the figure
(waiting and stepping count, saving does not). Bare: a process with torch.distributed and DeepSpeed, the same model
folder, DeepSpeed settings, threads and micro-batches, and the model's own loss. Both warm up for a round that is not
counted. `put_to_step_ms` is the median from `put_round` to the start of the round's first step while the trainer waits
for it.

Usage: python jobs/bench/train.py [--model FOLDER] [--steps 6] [--batch 8]      last line: one JSON object
"""

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from smoke import parse, tiny_model

ROOT = Path(__file__).parents[2]
WARM_UP_STEPS = 1
WAIT_S = 300
SENTENCE = "the light of a star bends when it passes near some mass because space itself is curved there"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="target folder; default: the quickstart's 22-layer SmolLM2")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8, help="rows per step")
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--packing", action="store_true")
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    parser.set_defaults(latencies=5)
    options = parse(parser, steps=2, batch=2, latencies=1)
    if options.bare:
        bare_loop(options.bare)
        return
    if options.smoke:
        options.model = tiny_model()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(options, folder)))


def measure(options: argparse.Namespace, folder: str) -> dict:
    from bohdi_ray.studies.quickstart import prepare_models
    from bohdi_ray.training.weights.versions import publish_base

    model = options.model or str(prepare_models().target_dir)
    config = make_config(model, options)
    base = os.path.join(folder, "checkpoints", "base")
    publish_base(config.target, base)
    bare = run_bare(config, base, options, folder)
    ours = run_ours(config, os.path.dirname(base), options)
    return {
        "ratio_to_bare": ours["tokens_per_s"] / bare["tokens_per_s"],
        "put_to_step_ms": ours["put_to_step_ms"],
        "tokens_per_s": ours["tokens_per_s"],
        "bare_tokens_per_s": bare["tokens_per_s"],
        "loss": ours["loss"],
        "bare_loss": bare["loss"],
        "peak_memory_gb": ours["peak_memory_gb"],
        "bare_peak_memory_gb": bare["peak_memory_gb"],
        "save_s": ours["save_s"],
        "steps": options.steps,
        "rows_per_step": options.batch,
        "packing": options.packing,
        "cores": os.cpu_count(),
    }


def make_config(model: str, options: argparse.Namespace):
    from bohdi_ray.config import FusionConfig

    training = {
        "learning_rate": 2e-4,
        "global_batch_size": options.batch,
        "micro_batch_size": options.micro_batch,
        "packing": options.packing,
        "max_length": 512,
    }
    return FusionConfig.model_validate(
        {
            "run_dir": "unused",
            "sources": [{"name": "source", "model": model}],
            "target": {"name": "target", "model": model},
            "enlightenment": {"steps": options.steps, "rows_per_step": options.batch},
            "training": training,
            "stop": {"rounds": 10},
        }
    )


def make_rows(round: int, count: int) -> list:
    """Questions of about 30 tokens, answers of 40 to 200, always the same ones."""
    import numpy as np

    from bohdi_ray.examples.kinds import Completion
    from bohdi_ray.examples.store import example_id

    rng = np.random.default_rng(round)
    words = SENTENCE.split()
    text = lambda n: " ".join(rng.choice(words, n)) + "."  # noqa: E731
    return [
        Completion(example_id(Completion, round, 0, i), text(25), text(int(rng.integers(40, 200))))
        for i in range(count)
    ]


def run_bare(config, base: str, options: argparse.Namespace, folder: str) -> dict:
    """The bare loop in a process of its own, on batches that our encoder made."""
    from bohdi_ray.training.batches.batches import micro_batches
    from bohdi_ray.training.batches.encoding import Encoder
    from bohdi_ray.training.feed.steps import step_sizes
    from bohdi_ray.training.objectives import OBJECTIVES
    from bohdi_ray.training.objectives.objective import encode_all
    from bohdi_ray.training.weights.versions import load_tokenizer
    from bohdi_ray.training.zero.config import complete_deepspeed

    training = config.training
    encoder = Encoder(load_tokenizer(f"{base}/weights"), None, training.max_length)
    steps = []
    for round, count in ((0, WARM_UP_STEPS * options.batch), (1, options.steps * options.batch)):
        rows, start = make_rows(round, count), 0
        for size in step_sizes(count, options.batch):
            encoded, _ = encode_all(OBJECTIVES["sft"], encoder, rows[start : start + size])
            steps.append(micro_batches(encoded, training.micro_batch_size, training.packing, training.max_length))
            start += size
    task = os.path.join(folder, "bare.pickle")
    with open(task, "wb") as file:
        pickle.dump({"steps": steps, "model": config.target.model, "deepspeed": complete_deepspeed(training)}, file)
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(os.cpu_count()), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, __file__, "--bare", task]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)
    if result.returncode:
        raise RuntimeError(result.stdout[-3000:] + result.stderr[-3000:])
    return json.loads(result.stdout.strip().splitlines()[-1])


def bare_loop(task_file: str) -> None:
    """What one would write by hand: the model's own loss, one backward per micro-batch, one step."""
    import resource

    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29655",
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
    }
    import torch
    import torch.distributed as dist

    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
        torch.set_num_threads(os.cpu_count() or 1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dist.init_process_group("nccl" if device == "cuda" else "gloo", rank=0, world_size=1)
    import deepspeed
    from transformers import AutoModelForCausalLM

    with open(task_file, "rb") as file:
        task = pickle.load(file)
    model = AutoModelForCausalLM.from_pretrained(task["model"], dtype=torch.bfloat16)
    model.config.use_cache = False
    model.train()
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=task["deepspeed"])
    tokens, losses, began = 0, [], 0.0
    for number, batches in enumerate(task["steps"]):
        if number == WARM_UP_STEPS:
            tokens, losses, began = 0, [], time.perf_counter()
        step_tokens, total = sum(b.num_answer_tokens for b in batches), 0.0
        for position, batch in enumerate(batches):
            inputs = {
                "input_ids": torch.tensor(batch.input_ids, device=device),
                "position_ids": torch.tensor(batch.position_ids, device=device),
                "labels": torch.tensor(batch.labels, device=device),
            }
            engine.set_gradient_accumulation_boundary(position == len(batches) - 1)
            loss = engine(**inputs, num_items_in_batch=step_tokens).loss
            engine.backward(loss, scale_wrt_gas=False)
            total += loss.item()
        engine.step()
        tokens += sum(b.num_tokens for b in batches)
        losses.append(total)
    seconds = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"tokens_per_s": tokens / seconds, "loss": losses, "peak_memory_gb": memory}))


def run_ours(config, checkpoints: str, options: argparse.Namespace) -> dict:
    import ray

    from bohdi_ray.actors.sample_queue import start_sample_queue
    from bohdi_ray.examples.store import ExampleStore
    from bohdi_ray.run.run_dir import RunDir
    from bohdi_ray.training.launch import start_trainer

    env = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False, runtime_env=env)
    queue = start_sample_queue(config.training, checkpoints)
    store = ExampleStore(RunDir(os.path.dirname(checkpoints)))

    def put(round: int, count: int) -> None:
        rows = make_rows(round, count)
        store.write(round, 0, rows)
        ray.get(queue.put_round.remote(round, [row.example_id for row in rows]), timeout=60)

    for round, count in ((0, WARM_UP_STEPS * options.batch), (1, options.steps * options.batch)):
        put(round, count)
    trainer = start_trainer(config, queue, checkpoints)

    def metrics_of(round: int) -> dict:
        deadline = time.monotonic() + WAIT_S
        while not ray.get(queue.wait_committed.remote(round, 1.0), timeout=60):
            trainer.raise_if_dead()
            if time.monotonic() > deadline:
                raise TimeoutError(f"round {round}")
        return ray.get(queue.metrics.remote(round), timeout=60)

    timed = metrics_of(1)
    latencies = []
    for round in range(2, 2 + options.latencies):
        time.sleep(6)  # by now the trainer has saved its optimizer, reported the round before, and waits
        put(round, 1)
        latencies.append(metrics_of(round)["put_to_step_s"])
    trainer.stop(60)
    ray.shutdown()
    seconds = timed["seconds"]
    return {
        "tokens_per_s": timed["num_tokens"] / (seconds["waiting"] + seconds["stepping"]),
        "loss": timed["step_losses"],
        "put_to_step_ms": 1000 * statistics.median(latencies),
        "peak_memory_gb": timed["peak_memory_gb"],
        "save_s": seconds["saving"],
    }


if __name__ == "__main__":
    main()
