"""RemoteEngine against vLLM's own OpenAI-compatible server, with a tiny model."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from engine_support import generation

from bohdi_ray.config import OpenAIModel
from bohdi_ray.engines.openai import RemoteEngine

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def server(tiny_model_dir, tmp_path_factory):
    """The server's base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(tiny_model_dir("qwen2"))]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--max-model-len", "256", "--max-num-seqs", "8", "--gpu-memory-utilization", "0.05"]
    command += ["--kv-cache-memory-bytes", str(1 << 26)]
    environment = os.environ | {"VLLM_NO_USAGE_STATS": "1", "TORCHDYNAMO_DISABLE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment.pop("BOHDI_ENGINE_OWNER", None)
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def test_a_vllm_server_is_a_source_with_constrained_answers(server):
    async def main():
        sampling = {"answer": {"max_tokens": 64}}  # the server's window is 256
        model = OpenAIModel(
            name="far", kind="openai", model="tiny", base_url=server, system_prompt="Be brief.", sampling=sampling
        )
        engine = RemoteEngine(model)
        await engine.start()
        await engine.ping()
        requests = [
            generation("plain"),
            generation("again"),
            generation("label", choices=("A", "B", "C")),
            generation("name", regex="[A-Z][a-z]{2,5}"),
            generation("long", "word " * 400),
        ]
        try:
            done = {c.request_id: c async for part in engine.run(requests) for c in part}
            return done, await engine.stats()
        finally:
            await engine.stop()

    done, stats = asyncio.run(asyncio.wait_for(main(), 120))
    assert done["plain"].text == done["again"].text and done["plain"].num_tokens > 0
    assert done["label"].text in ("A", "B", "C")
    assert sum(math.exp(p) for p in done["label"].choice_logprobs.values()) == pytest.approx(1)
    assert done["name"].text[0].isupper() and 3 <= len(done["name"].text) <= 6
    assert done["long"].error is not None
    assert stats.num_served == 4 and stats.num_retries == 0
    assert not any("constraint" in text or "left out" in text for text in stats.learned), stats.learned
