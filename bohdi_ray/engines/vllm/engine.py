"""LLMEngine: one replica of one model, hosted by vLLM's AsyncLLM.

Owns the vLLM engine and its processes: answers requests through the model's own chat template, loads new weights in
place and proves them, and notices when it hangs. A plain async class; actors/engine_actor.py makes a Ray actor of it,
tests use it as it is. It knows nothing of rounds or routing, and never retries: a failed engine is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from bohdi_ray.engines.chat.style import ChatStyles
from bohdi_ray.engines.probe import PROBE_FILE, Probe, compare, read_probe
from bohdi_ray.engines.spec import EngineSpec, EngineStats, LoadReport
from bohdi_ray.engines.token_requests import TokenRequest
from bohdi_ray.engines.vllm import api
from bohdi_ray.engines.vllm.answers import Answers
from bohdi_ray.engines.vllm.in_flight import InFlight
from bohdi_ray.engines.vllm.params import scoring_params
from bohdi_ray.engines.vllm.processes import child_processes, end_processes
from bohdi_ray.engines.vllm.slots import Slots
from bohdi_ray.engines.vllm.start_arguments import require_control_tokens, start_arguments
from bohdi_ray.engines.vllm.start_errors import logged_errors, start_error
from bohdi_ray.engines.vllm.streaming import RunQueue, as_they_finish
from bohdi_ray.engines.vllm.token_answers import answer_tokens
from bohdi_ray.errors import BohdiError, ConfigError, EngineFailed, RequestRefused, WeightsMismatch
from bohdi_ray.records import ROLES, EngineReply, EngineRequest

log = logging.getLogger(__name__)

WATCH_EVERY_S = 1.0
STOP_S = 10.0  # for vLLM's processes to end by themselves


class LLMEngine:
    """Methods run on one event loop. Call `start` first; after an EngineFailed only `stop` may be called."""

    def __init__(self, spec: EngineSpec):
        self.spec = spec
        self._weights_version = spec.weights_version
        self._failure: EngineFailed | None = None
        self._runs: set[RunQueue] = set()
        self._in_flight = InFlight()
        self._slots = Slots(spec.model.engine.max_num_seqs)  # the others wait here, without a deadline
        self._open = asyncio.Event()  # closed while weights are loaded and proved, and while it sleeps
        self._asleep = False
        self._loading = asyncio.Lock()
        self._probe: Probe | None = None  # the one last proved
        self._num_served = self._num_prompt_tokens = self._num_decoded_tokens = 0
        self._llm: Any = None
        self._answers: Answers | None = None
        self._processes: set[Any] = set()
        self._watchdog: asyncio.Task[None] | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="bohdi-engine-")  # files that vLLM's processes share with us

    async def start(self) -> LoadReport | None:
        """Loads the model and, if the spec says so, verifies its weights with the probe; then returns the report.

        Raises ConfigError when vLLM refuses the model or its settings or probe.json is missing, WeightsMismatch,
        EngineFailed.
        """
        spec = self.spec
        api.set_environment(spec.model, spec.device)
        before = child_processes()
        started = time.monotonic()
        try:
            arguments = start_arguments(spec, self._scratch.name)
            # Blocks this loop on purpose: AsyncLLM ties itself to the loop it is made on.
            self._llm = api.make_async_llm(arguments, self._in_flight.moved, self._scratch.name)
        except Exception as error:
            end_processes(child_processes() - before, STOP_S)
            said = logged_errors(self._scratch.name)
            self._scratch.cleanup()
            if isinstance(error, BohdiError):
                raise
            raise start_error(spec, error, said) from error
        if arguments.get("tokenizer", "").startswith(self._scratch.name):
            log.info("%s: vLLM reads the tokenizer from %s", spec.name, self._scratch.name)
        else:
            self._scratch.cleanup()
        self._processes = child_processes() - before
        tokenizer = await api.tokenizer_of(self._llm)
        require_control_tokens(spec, tokenizer)
        window = self._llm.model_config.max_model_len
        sampling = {role: spec.model.sampling_of(role) for role in ROLES}
        try:
            styles = ChatStyles(spec.name, tokenizer, sampling, spec.thinks)
        except ConfigError:
            await self.stop()
            raise
        self._answers = Answers(spec.name, spec.model.system_prompt, tokenizer, window, self._finished, styles)
        self._watchdog = asyncio.create_task(self._watch())
        self._in_flight.begin()
        report = None
        if spec.proves:
            report = await self._prove(spec.weights_version, spec.path, started, time.monotonic())
        self._open.set()
        return report

    async def run(self, requests: Sequence[EngineRequest | TokenRequest]) -> AsyncIterator[list[EngineReply]]:
        """Replies as they finish, all that are ready together, in any order, one for every request.

        Consumes: the requests given. Produces: lists of completions, an empty one now and then as a sign of life.
        Waits for: a slot (max_num_seqs requests are answered at a time), weights being loaded, the end of a sleep,
        vLLM. Unblocked by: a finished request, or the failure of the engine, which raises EngineFailed. A caller that
        goes away (cancelled, or the generator closed) aborts its requests in vLLM.
        """
        self._raise_if_failed()
        queue: RunQueue = asyncio.Queue()
        self._runs.add(queue)
        try:
            async for ready in as_they_finish(queue, [self._answer(request) for request in requests]):
                yield ready
        finally:
            self._runs.discard(queue)

    async def load_weights(self, version: int, weights_dir: str) -> LoadReport:
        """Replaces the weights in place: requests in flight are finished first, later ones wait.

        Raises WeightsMismatch or EngineFailed (the engine must then be replaced), ConfigError if probe.json is missing.
        """
        async with self._loading:
            self._raise_if_failed()
            assert not self._asleep, "an engine wakes before it loads"
            read_probe(Path(weights_dir).parent / PROBE_FILE)
            started = time.monotonic()
            async with self._closed(f"load weights version {version} of {weights_dir}"):
                await api.reload_weights(self._llm, weights_dir)
                report = await self._prove(version, weights_dir, started, time.monotonic())
            self._weights_version = version
            self._open.set()
            return report

    async def sleep(self) -> None:
        """Moves the engine off the GPU: requests in flight are finished first, later ones wait for `wake`. Raises
        EngineFailed."""
        async with self._loading:
            self._raise_if_failed()
            if not self._asleep:
                async with self._closed("fall asleep"):
                    await api.sleep(self._llm)
                self._asleep = True

    async def wake(self) -> None:
        """Moves the engine back onto the GPU, with the weights it had. Raises EngineFailed."""
        async with self._loading:
            self._raise_if_failed()
            if self._asleep:
                async with self._closed("wake up"):
                    await api.wake_up(self._llm)
                self._asleep = False
                self._open.set()

    async def health(self) -> None:
        """Raises EngineFailed if the engine died, hangs or serves the wrong weights."""
        self._raise_if_failed()
        try:
            await self._llm.check_health()
        except Exception as error:
            raise self._fail(f"died: {error}") from error

    async def stats(self) -> EngineStats:
        """Counters since the start."""
        return EngineStats(
            name=self.spec.name,
            weights_version=self._weights_version,
            num_in_flight=len(self._in_flight),
            num_served=self._num_served,
            num_prompt_tokens=self._num_prompt_tokens,
            num_decoded_tokens=self._num_decoded_tokens,
            idle_s=self._in_flight.idle_s,
            uptime_s=self._in_flight.uptime_s,
            **self._slots.stats(),
        )

    async def stop(self) -> None:
        """Ends vLLM and makes sure that none of its processes remains. May be called twice."""
        if self._failure is not None:
            log.warning("%s", self._failure)
        self._fail("was stopped")
        if self._watchdog is not None:
            self._watchdog.cancel()
        try:
            if self._llm is not None:
                llm, self._llm = self._llm, None
                try:
                    await asyncio.to_thread(llm.shutdown, STOP_S)
                finally:
                    await asyncio.to_thread(end_processes, self._processes, STOP_S)
        finally:
            self._scratch.cleanup()

    # One request.

    async def _answer(self, request: EngineRequest | TokenRequest) -> EngineReply:
        async with self._slots.one():
            await self._open.wait()
            assert self._answers is not None
            if isinstance(request, TokenRequest):
                window = self._llm.model_config.max_model_len
                return await answer_tokens(request, self.spec.name, self._weights_version, window, self._finished)
            return await self._answers.answer(request, self._weights_version)

    async def _finished(self, token_ids: list[int], params: Any) -> Any:
        with self._in_flight.one() as request_id:
            try:
                output = await api.finished(self._llm, token_ids, params, request_id)
            except Exception as error:
                if not api.is_engine_dead(error) and api.is_bad_request(error):
                    raise RequestRefused(str(error)) from error
                raise self._fail(f"died: {error}") from error
        if (reason := api.failure_of(output, params)) is not None:
            raise self._fail(f"gave up a request ({reason})")
        self._num_served += 1
        self._num_prompt_tokens += len(token_ids)
        self._num_decoded_tokens += len(output.outputs[0].token_ids)
        return output

    # Proof, progress and failure.

    @contextlib.asynccontextmanager
    async def _closed(self, purpose: str) -> AsyncIterator[None]:
        """Holds back new requests to vLLM from here on; the caller lets them in again. An error or a timeout in the
        block fails the engine."""
        self._open.clear()
        try:
            async with asyncio.timeout(self.spec.weights_s):
                yield
        except TimeoutError:
            raise self._fail(f"did not {purpose} within {self.spec.weights_s:.0f} s") from None
        except BohdiError:
            raise
        except asyncio.CancelledError:
            self._fail(f"was cancelled while it was to {purpose}")
            raise
        except Exception as error:
            raise self._fail(f"could not {purpose}: {error}") from error
        self._in_flight.moved()

    async def _prove(self, version: int, weights_dir: str, started: float, loaded: float) -> LoadReport:
        probe = read_probe(Path(weights_dir).parent / PROBE_FILE)
        params = scoring_params()
        outputs = await asyncio.gather(*(self._finished(list(ids), params) for ids in probe.token_ids))
        served = [api.prompt_logprobs(output) for output in outputs]
        report = compare(served, probe, self._probe, self.spec.tolerance)
        if report.failure is not None or probe.weights_version != version:
            reason = report.failure or f"probe.json is of version {probe.weights_version}"
            raise self._fail(f"does not serve weights version {version} of {weights_dir}: {reason}", WeightsMismatch)
        self._probe = probe
        now = time.monotonic()
        return LoadReport(
            weights_version=version,
            seconds=now - started,
            load_s=loaded - started,
            proof_s=now - loaded,
            mean_abs_difference=report.mean_abs_difference,
            max_abs_difference=report.max_abs_difference,
            trainer_change=report.trainer_change,
            progress=report.progress,
        )

    async def _watch(self) -> None:
        """Fails the engine if requests are in flight without any progress. Ends with the engine.

        Consumes the times of progress and of requests; produces at most one failure; is unblocked by the clock.
        """
        while self._failure is None:
            await asyncio.sleep(min(WATCH_EVERY_S, self.spec.idle_s / 4))
            if not self._open.is_set():
                continue  # loading weights has its own deadline
            if (reason := self._in_flight.hangs(self.spec.idle_s, self.spec.request_s)) is not None:
                self._fail(reason)

    def _fail(self, reason: str, kind: type[EngineFailed] = EngineFailed) -> EngineFailed:
        """Records the first failure and raises it in every caller of `run`."""
        if self._failure is None:
            self._failure = kind(f"engine of {self.spec.name} {reason}")
            for queue in self._runs:
                queue.put_nowait(self._failure)
        return self._failure

    def _raise_if_failed(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._llm is None:
            raise EngineFailed(f"engine of {self.spec.name} was not started")
