"""All of vLLM's interface that this package relies on, but for what params.py holds. Support for another
vLLM version changes only these two files.

Called by engine.py alone. Imports vllm and torch inside functions only: the module itself stays light. It holds no
state and knows nothing of fusions.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from bohdi_ray.config import VllmModel
from bohdi_ray.engines.vllm.ipc_folder import make_ipc_folder
from bohdi_ray.engines.vllm.orphan_guard import OWNER_VARIABLE
from bohdi_ray.engines.vllm.params import MAX_LOGPROBS
from bohdi_ray.engines.vllm.start_errors import errors_logged_to

GUARD = "bohdi_ray.engines.vllm.orphan_guard.OrphanGuard"


def set_environment(model: VllmModel, device: str) -> None:
    """Sets the environment variables that vLLM and its processes read. Values that the user has set are kept, except
    for two: the owner of the engine's processes and, on a CPU, whether the worker of an unsplit engine runs in a
    process of its own, which must agree with `engine_arguments`.
    """
    os.environ[OWNER_VARIABLE] = str(os.getpid())
    make_ipc_folder()
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    if device == "cpu":
        # Several engines and a trainer share the cores, and OpenMP threads that wait by spinning starve the others.
        # Measured, three engines of two threads on two cores: 35 tokens/s each spinning, 168 sleeping.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, int(model.resources.num_cpus))))
        if model.engine.enforce_eager:
            # vLLM compiles helpers of its sampler even then: 14 s of g++ at the first request for log-probabilities.
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        if model.engine.tensor_parallel_size * model.engine.pipeline_parallel_size == 1:
            # With this, and the `uni` executor below, the worker lives in the engine's process: one process less to
            # start and to hold in memory.
            os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"


def engine_arguments(
    model: VllmModel,
    path: str,
    seed: int,
    device: str,
    sleeps: bool = False,
    tokenizer: str | None = None,
    has_mistral_format: bool = False,
    keeps_states: bool = False,
) -> dict[str, Any]:
    """Keyword arguments of AsyncEngineArgs. `model.engine.extra` has the last word.

    `tokenizer` is a folder with a tokenizer other than the model's own files give. With `has_mistral_format` Mistral's
    own files are beside those in Hugging Face's layout, and vLLM would prefer them. `keeps_states`: it has
    Mamba's layers or others like them.
    """
    engine = model.engine
    arguments: dict[str, Any] = {
        "model": path,
        "served_model_name": model.name,  # the label of its stats; else it is the path
        "dtype": model.dtype,
        "trust_remote_code": model.trust_remote_code,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "pipeline_parallel_size": engine.pipeline_parallel_size,
        "max_num_seqs": engine.max_num_seqs,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "enforce_eager": engine.enforce_eager,
        # Only safetensors unless told otherwise: other formats may run code when they are read.
        "load_format": engine.load_format or "safetensors",
        "seed": seed,
        "max_logprobs": MAX_LOGPROBS,
        "disable_log_stats": True,
        "worker_extension_cls": GUARD,
        # Nobody shows our models pictures: no memory is kept for them, and a wrapper's encoders are left out.
        "language_model_only": True,
    }
    if tokenizer is not None:
        arguments["tokenizer"] = tokenizer
    if has_mistral_format:
        # Its tokenizer knows no chat template, and its weights would be loaded beside or instead of the others.
        arguments |= {"tokenizer_mode": "hf", "config_format": "hf"}
        arguments["ignore_patterns"] = ["original/**/*", "consolidated*.safetensors"]  # not to be downloaded
    if not os.path.isdir(path) and model.revision is not None:
        arguments["revision"] = model.revision
    if engine.max_model_len is not None:
        arguments["max_model_len"] = engine.max_model_len
    if device == "cpu":
        # A seeded request that is prefilled in pieces kills vLLM's CPU worker ("CPU Generator does not use offset"),
        # and all our requests are seeded.
        arguments["enable_chunked_prefill"] = False
        if keeps_states:  # whose states vLLM shares between prompts only where prefill is chunked
            arguments["enable_prefix_caching"] = False
        if engine.max_model_len is not None:
            arguments["max_num_batched_tokens"] = max(2048, engine.max_model_len)
    elif sleeps:
        arguments["enable_sleep_mode"] = True  # refused on a CPU, where `sleep` below only pauses
    if engine.kv_cache_memory_bytes is not None:
        arguments["kv_cache_memory_bytes"] = engine.kv_cache_memory_bytes
    if engine.pipeline_parallel_size > 1:
        # Stages sit on several nodes, where a parent's process id means nothing; Ray ends its own workers.
        arguments["distributed_executor_backend"] = "ray"
        del arguments["worker_extension_cls"]
    elif engine.tensor_parallel_size > 1:
        arguments["distributed_executor_backend"] = "mp"
    elif device == "cpu":
        arguments["distributed_executor_backend"] = "uni"
    return arguments | engine.extra


def make_async_llm(arguments: dict[str, Any], on_progress: Callable[[], None], scratch: str) -> Any:
    """An AsyncLLM; blocks until its model is loaded. `on_progress` is called after steps that read or wrote tokens.

    `scratch` is a folder into which the engine's processes write what goes wrong while they start.
    """
    from vllm import envs
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.logger import DEFAULT_LOGGING_CONFIG
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Progress(StatLoggerBase):
        def __init__(self, vllm_config: Any, engine_index: int = 0):
            pass

        def record(self, scheduler_stats: Any, iteration_stats: Any, *args: Any, **kwargs: Any) -> None:
            if iteration_stats is not None and (
                iteration_stats.num_generation_tokens or iteration_stats.num_prompt_tokens
            ):
                on_progress()

        def log_engine_initialized(self) -> None:
            pass

    loggers = [Progress, *ray_stat_loggers()]
    # As vLLM's own server: its defaults by size of card (8192 batched tokens on large ones) hang on who starts it, and
    # whoever does not say gets 2048.
    usage = UsageContext.OPENAI_API_SERVER
    with errors_logged_to(scratch, DEFAULT_LOGGING_CONFIG, envs.VLLM_LOGGING_LEVEL, envs.VLLM_LOGGING_STREAM):
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments), stat_loggers=loggers, usage_context=usage)


def ray_stat_loggers() -> list[Any]:
    """vLLM's own stats as Ray's metrics `ray_vllm_*`, with the actor's name as `ReplicaId`; [] outside Ray."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return []
    from ray.util import metrics
    from vllm.v1.metrics import ray_wrappers

    context = ray.get_runtime_context()
    replica = context.get_actor_name() or context.get_actor_id() or "driver"
    # vLLM's wrappers are made for Ray Serve: without it, as here, they take all of Ray for missing, and inside a plain
    # actor they know no replica.
    ray_wrappers.ray_metrics = metrics
    ray_wrappers._get_replica_id = lambda: replica
    return [ray_wrappers.RayPrometheusStatLogger]


async def tokenizer_of(llm: Any) -> Any:
    """The engine's own Hugging Face tokenizer."""
    tokenizer = llm.get_tokenizer()
    return await tokenizer if inspect.isawaitable(tokenizer) else tokenizer


async def finished(llm: Any, token_ids: list[int], params: Any, request_id: str) -> Any:
    """vLLM's RequestOutput of one request, when it is finished. Cancelling this aborts the request in the engine."""
    outputs = [output async for output in llm.generate({"prompt_token_ids": token_ids}, params, request_id)]
    return outputs[-1]


def failure_of(output: Any, params: Any) -> str | None:
    """The finish reason of a request that the engine gave up; None if the request ended normally.

    vLLM also ends a request with "error" if it cannot follow its grammar; that failure belongs to the request.
    """
    reason = output.outputs[0].finish_reason
    if reason == "abort" or (reason == "error" and getattr(params, "structured_outputs", None) is None):
        return reason
    return None


def prompt_logprobs(output: Any) -> list[float]:
    """Log-probability of every prompt token but the first, nats."""
    return [logprob for logprob, _ in prompt_logprobs_with_ranks(output)]


def prompt_logprobs_with_ranks(output: Any) -> list[tuple[float, int]]:
    """Log-probability (nats) and rank, from 1 for the most likely one, of every prompt token but the first."""
    found = (at[token] for at, token in zip(output.prompt_logprobs[1:], output.prompt_token_ids[1:], strict=True))
    return [(entry.logprob, entry.rank) for entry in found]


def next_token_logprobs(output: Any) -> tuple[dict[int, float], int]:
    """Log-probabilities (nats) of the tokens asked for, and the decoded token: what is decoded greedily is the most
    likely one."""
    answer = output.outputs[0]
    return {token: entry.logprob for token, entry in answer.logprobs[0].items()}, answer.token_ids[0]


def first_token_logprobs(output: Any, tokenizer: Any) -> list[tuple[str, float]]:
    """Text and log-probability of the alternatives at the first decoded position."""
    return [(tokenizer.decode([token]), entry.logprob) for token, entry in output.outputs[0].logprobs[0].items()]


async def reload_weights(llm: Any, weights_dir: str) -> None:
    """Drain, read the folder's weights into the running model, clear the prefix cache, resume."""
    await llm.pause_generation(mode="wait", clear_cache=True)
    await llm.collective_rpc("reload_weights", kwargs={"weights_path": weights_dir})
    # Again after the reload: nothing computed with the old weights may be found.
    await llm.reset_prefix_cache()
    await llm.resume_generation()


async def sleep(llm: Any) -> None:
    """Drain, clear the prefix cache, move the weights to main memory, free the KV cache.

    The CUDA context, CUDA graphs and communicators stay on the GPU. On a CPU vLLM moves nothing and only pauses.
    """
    await llm.sleep(level=1, mode="wait")


async def wake_up(llm: Any) -> None:
    """Moves weights and KV cache back onto the GPU and accepts requests again."""
    if not await llm.wake_up():
        raise RuntimeError("vLLM reports that some of its memory is still asleep")


def is_engine_dead(error: BaseException) -> bool:
    """Whether an exception of vLLM means that the whole engine is dead."""
    from vllm.v1.engine.exceptions import EngineDeadError

    return isinstance(error, EngineDeadError)


def is_bad_request(error: BaseException) -> bool:
    """Whether vLLM refused one request for its parameters (a regex its grammar compiler does not take, say)."""
    import vllm.exceptions

    # Older versions raise a plain ValueError.
    return isinstance(error, (getattr(vllm.exceptions, "VLLMClientError", ValueError), ValueError))
