"""What an engine is built from and what it reports. Picklable and light: the driver imports it without importing
vllm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bohdi_ray.config import OpenAIModel, VllmModel


@dataclass(frozen=True)
class EngineSpec:
    """The specification of one replica: which model, which weights, and how long anything may take."""

    model: VllmModel
    path: str  # the folder or hub id that is loaded
    weights_version: int = 0
    proves: bool = False  # the target's: a probe.json is beside the folder, and the start proves it
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    thinks: bool = True  # where its family does and nothing says otherwise; a target does not by default
    sleeps: bool = False  # it gives its card's memory back between rounds
    idle_s: float = 120.0  # without a token while requests are in flight
    request_s: float = 900.0  # one request, from when vLLM gets it
    weights_s: float = 600.0  # draining, then loading and proving new weights, falling asleep, or waking up
    tolerance: float = 0.15  # mean absolute difference from the trainer, nats per token

    @property
    def name(self) -> str:
        return self.model.name


@dataclass(frozen=True)
class RemoteSpec:
    """The specification of a remote source: the model, and whether the run asks it for labels."""

    model: OpenAIModel
    judges: bool  # whether it is asked for labels

    @property
    def name(self) -> str:
        return self.model.name


@dataclass(frozen=True)
class LoadReport:
    """New weights are live. Figures in nats per token, as in probe.ProbeReport."""

    weights_version: int
    seconds: float  # altogether
    load_s: float  # draining and loading
    proof_s: float
    mean_abs_difference: float
    max_abs_difference: float
    trainer_change: float | None
    progress: float | None


@dataclass(frozen=True)
class EngineStats:
    """Counters since the start. Tokens are those of finished requests."""

    name: str
    weights_version: int
    num_in_flight: int
    num_served: int
    num_prompt_tokens: int
    num_decoded_tokens: int
    idle_s: float  # with nothing in flight
    uptime_s: float
    num_retries: int = 0  # remote engines only
    num_waiting: int = 0  # requests that wait for their turn; not part of num_in_flight
    num_begun: int = 0  # requests whose turn has come
    waited_s: float = 0.0  # how long these waited for it, summed
    learned: tuple[str, ...] = ()  # remote engines only: what their server does not take, in whole sentences
