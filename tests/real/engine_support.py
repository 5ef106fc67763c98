"""One LLMEngine on its own event loop, for tests that are plain functions."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from bohdi_ray.config import EngineArgs, VllmModel
from bohdi_ray.engines.probe import PROBE_FILE, read_probe, write_probe
from bohdi_ray.engines.spec import EngineSpec
from bohdi_ray.engines.vllm.engine import LLMEngine
from bohdi_ray.records import EngineReply, EngineRequest, GenerationRequest, SamplingSpec, ScoreRequest
from bohdi_ray.training.weights.versions import publish_base

WINDOW = 256
SMALL = EngineArgs(
    max_model_len=WINDOW,
    max_num_seqs=16,
    gpu_memory_utilization=0.05,
    kv_cache_memory_bytes=1 << 26,
    enforce_eager=True,
)


def vllm_model(folder: Path | str, **fields) -> VllmModel:
    return VllmModel(name="tiny", model=str(folder), engine=SMALL, **fields)


def published(model: VllmModel, out_dir: Path, version: int) -> str:
    """The weights folder of a model published as the trainer does, with its probe."""
    publish_base(model, str(out_dir))
    write_probe(out_dir / PROBE_FILE, replace(read_probe(out_dir / PROBE_FILE), weights_version=version))
    return str(out_dir / "weights")


class Running:
    """A started engine. `close` stops it."""

    def __init__(self, model: VllmModel, path: str, version: int = 0, **spec):
        self.loop = asyncio.new_event_loop()
        spec.setdefault("proves", (Path(path).parent / PROBE_FILE).is_file())
        self.engine = LLMEngine(EngineSpec(model=model, path=path, weights_version=version, **spec))
        self.report = self.do(self.engine.start())

    def do(self, coroutine, timeout_s: float = 240):
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, timeout_s))

    def ask(self, *requests: EngineRequest) -> dict[str, EngineReply]:
        async def collect():
            return {c.request_id: c async for part in self.engine.run(requests) for c in part}

        return self.do(collect())

    def close(self) -> None:
        self.do(self.engine.stop())
        self.loop.close()


def generation(name: str, prompt: str = "Why is the sky blue?", seed: int = 1, **fields) -> GenerationRequest:
    sampling = SamplingSpec(fields.pop("temperature", 0.8), 0.95, fields.pop("max_tokens", 24), seed)
    return GenerationRequest(name, fields.pop("role", "answer"), prompt, sampling, **fields)


def scores(num: int = 8) -> list[ScoreRequest]:
    return [ScoreRequest(str(i), "judge", f"Question {i}?", f"Answer number {i} is the best.") for i in range(num)]
