"""Sections of the configuration that describe models: sampling, engines, resources, vLLM and remote models.

Part of fusion_config.py, which says what the configuration is.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    field_serializer,
    field_validator,
    model_validator,
)

from bohdi_ray.config.addresses import is_written_as_path
from bohdi_ray.config.kinds.by_kind import ByKind, by_kind
from bohdi_ray.config.section_base import LabelSelector, Section, TemplateVariables
from bohdi_ray.records import Role

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SECRET = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)")


class RoleSampling(Section):
    """Sampling settings for one role. Unset fields take the role's default."""

    temperature: float | None = Field(None, ge=0, le=2)
    """Sampling temperature; 0 is greedy. Default: the model's own `temperature`; 0 for the judge."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Nucleus sampling. Default: 0.95 for sprouting and for questions, 0.8 for answers (the paper's)."""
    max_tokens: int | None = Field(None, ge=1)
    """Largest number of tokens decoded. Default: 4096 for an answer (the paper's), 512 for a question, 64 for a domain
    name."""
    reasoning_max_tokens: int | None = Field(None, ge=0)
    """Largest number of tokens for a model's reasoning before its text, in addition to `max_tokens`. 0: the model is
    asked not to think. Default: 8192 for an answer and 2048 for a question if the model thinks by default; else 0."""
    chat_template_kwargs: TemplateVariables = Field({})
    """Variables for the chat template in this role, on top of the model's: `{enable_thinking: false}`."""


ROLE_DEFAULTS: dict[Role, RoleSampling] = {
    "sprout": RoleSampling(top_p=0.95, max_tokens=64),
    "question": RoleSampling(top_p=0.95, max_tokens=512),
    "answer": RoleSampling(top_p=0.8, max_tokens=4096),
    "judge": RoleSampling(top_p=1.0, max_tokens=8),
}


class Sampling(Section):
    """Sampling settings of one model, by role."""

    sprout: RoleSampling = RoleSampling()
    """Proposing names of domains."""
    question: RoleSampling = RoleSampling()
    """Writing a question."""
    answer: RoleSampling = RoleSampling()
    """Answering it."""
    judge: RoleSampling = RoleSampling()
    """Judging answers: one constrained label, so only the temperature matters."""


class EngineArgs(Section):
    """vLLM's engine arguments. The ones named here are read by bohdi_ray too; any other goes into `extra`."""

    tensor_parallel_size: int = Field(1, ge=1, le=4096)
    """Number of GPUs over which one replica is split, within one node."""
    pipeline_parallel_size: int = Field(1, ge=1, le=4096)
    """Number of stages into which one replica is split, across nodes."""
    max_model_len: int | None = Field(None, ge=64)
    """Longest prompt plus answer, tokens. Default: the model's own."""
    max_num_seqs: int = Field(256, ge=1)
    """Largest number of requests decoded together."""
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    """Share of a GPU's memory (on a CPU: of the machine's) that vLLM may use."""
    kv_cache_memory_bytes: int | None = Field(None, ge=1)
    """Memory for the KV cache; overrides what is derived from gpu_memory_utilization. Set it on a CPU."""
    enforce_eager: bool = False
    """Skip compilation: starts faster, decodes slower on a GPU. Set it on a CPU."""
    load_format: str | None = None
    """vLLM's load format, for example `dummy` for random weights in a speed measurement."""
    extra: dict[str, Any] = Field({})
    """Further fields of vLLM's AsyncEngineArgs, passed on as they are."""


class ReplicaResources(Section):
    """The resources that Ray must have free for one replica."""

    num_gpus: float | None = Field(None, ge=0)
    """Number of GPUs, or a share of one if below 1. Default: tensor_parallel_size * pipeline_parallel_size; 0 on a CPU
    cluster."""
    num_cpus: float = Field(1, ge=0)
    """CPU slots."""
    memory_gb: float | None = Field(None, gt=0)
    """Main memory, GB, reserved with Ray. Default: not reserved."""
    custom: dict[str, float] = Field({})
    """Custom Ray resources that its node must have, `{a100: 1}`; with several pipeline stages, for each stage."""
    label_selector: LabelSelector = Field({})
    """Ray labels that its node must have: `{region: a}`, also `!a`, `in(a,b)` and `!in(a,b)`."""

    @field_validator("custom")
    @classmethod
    def _of_their_own(cls, value: dict[str, float]) -> dict[str, float]:
        for name, amount in value.items():
            if name in ("CPU", "GPU", "memory", "object_store_memory") or amount <= 0:
                raise ValueError(
                    f"custom resources are amounts above 0, and not {name}: {amount:g}; CPU, GPU and memory have fields"
                )
        return value


class ReplicaRange(Section):
    """The least and largest number of engines of a pool, which grows and shrinks with its load."""

    min: int = Field(1, ge=1, le=4096)
    """Least number of engines, as long as the cluster has capacity for them."""
    max: int = Field(ge=1, le=4096)
    """Largest number of engines."""
    requests_per_engine: int | None = Field(None, ge=1)
    """Number of requests in flight at which an engine counts as full; with a lower number the pool grows sooner.
    Default: its `engine.max_num_seqs`."""

    @model_validator(mode="after")
    def _in_order(self) -> ReplicaRange:
        if self.min > self.max:
            raise ValueError(f"min is {self.min}, max is {self.max}")
        return self

    def __str__(self) -> str:
        return f"{self.min}" if self.min == self.max else f"{self.min} to {self.max}"


class ModelBase(Section):
    name: str
    """Short name used in tables, files and records; letters, digits, `_`, `.`, `-`."""
    system_prompt: str | None = None
    """Sent with every request to this model; put at the start of the user turn if its template has no system role."""
    temperature: float = Field(0.7, ge=0, le=2)
    """Temperature of all roles except the judge's, unless the role sets its own."""
    sampling: Sampling = Sampling()
    """Finer settings by role: `sprout`, `question`, `answer`, `judge`."""
    chat_template_kwargs: TemplateVariables = Field({})
    """Variables for the chat template in every role: `{enable_thinking: false}`, `{reasoning_effort: low}`."""

    def sampling_of(self, role: Role) -> RoleSampling:
        """This model's sampling for one role. All fields are set except `reasoning_max_tokens`, whose default the
        engine knows."""
        own, default = getattr(self.sampling, role), ROLE_DEFAULTS[role]
        temperature = 0.0 if role == "judge" else self.temperature
        return RoleSampling(
            temperature=temperature if own.temperature is None else own.temperature,
            top_p=default.top_p if own.top_p is None else own.top_p,
            max_tokens=default.max_tokens if own.max_tokens is None else own.max_tokens,
            reasoning_max_tokens=own.reasoning_max_tokens,
            chat_template_kwargs={**self.chat_template_kwargs, **own.chat_template_kwargs},
        )

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("must be 1 to 64 letters, digits, '_', '.' or '-', starting with a letter or digit")
        return value


class VllmModel(ModelBase):
    """A model that vLLM loads in Ray actors of ours."""

    kind: Literal["vllm"] = "vllm"
    """Hosted by vLLM on the cluster."""
    model: str
    """A folder in Hugging Face layout (absolute, or `./…` beside the configuration file), `cache:NAME`, or a hub id.
    `$NAME` in it, as in every path here, is replaced by that environment variable; a variable that is not set is
    refused."""
    revision: str | None = None
    """Commit of a hub model. Pin it."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of the weights in the engine. `auto`: the format of its files; on a CPU without instructions for
    bfloat16 (most have none) float32."""
    trust_remote_code: bool = False
    """Run code that comes with the model. For sources only; needs a pinned revision or a local folder."""
    engine: EngineArgs = EngineArgs()
    """Arguments of the engine."""
    resources: ReplicaResources = ReplicaResources()
    """Resources of one replica."""
    replicas: ReplicaRange = ReplicaRange(min=1, max=1)
    """Engines of this model: a number, or `{min: 1, max: 4}` to grow and shrink with the load. Default: 1."""

    @field_validator("replicas", mode="before")
    @classmethod
    def _a_number_is_both(cls, value: Any) -> Any:
        return {"min": value, "max": value} if isinstance(value, int) else value

    @field_serializer("replicas")
    def _one_number(self, value: ReplicaRange) -> int | dict[str, int]:
        return value.min if value.min == value.max else value.model_dump(exclude_none=True)

    @model_validator(mode="after")
    def _pinned_code(self) -> VllmModel:
        local = is_written_as_path(self.model)
        if self.trust_remote_code and self.revision is None and not local:
            raise ValueError("trust_remote_code runs third-party code: pin `revision` to the commit you have read")
        return self

    @model_validator(mode="after")
    def _gpus_match_the_split(self) -> VllmModel:
        num_gpus = self.resources.num_gpus
        split = self.engine.tensor_parallel_size * self.engine.pipeline_parallel_size
        if num_gpus and num_gpus != split and not (split == 1 and num_gpus < 1):
            raise ValueError(
                f"resources.num_gpus is {num_gpus:g}, but tensor_parallel_size * pipeline_parallel_size is {split}: "
                "leave num_gpus out, or make it their product (with one card also a share below 1)"
            )
        return self


class OpenAIModel(ModelBase):
    """A source behind any OpenAI-compatible server."""

    kind: Literal["openai"]
    """Served by an external server."""
    model: str
    """The model's name on the server."""
    base_url: str
    """The server's address up to and including `/v1`; a query (`?api-version=…`) is kept."""
    api_key: str | None = None
    """Reference to the key: `env:NAME` or `file:PATH`, read where it is used, never the key itself."""
    max_in_flight: int = Field(16, ge=1)
    """Largest number of concurrent requests of this run."""
    max_retries: int = Field(6, ge=0)
    """Number of retries, with growing, jittered pauses, on 408, 409, 425, 429, 5xx, time-outs and failed
    connections."""
    timeout_s: float = Field(300, gt=0)
    """Longest duration of one request, s."""
    price_per_million_prompt_tokens: float = Field(0, ge=0)
    """Price used for `stop.cost`, in any currency."""
    price_per_million_output_tokens: float = Field(0, ge=0)
    """Price used for `stop.cost`, in the same currency."""

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", value):
            raise ValueError("must be an http:// or https:// address without a user name or password in it")
        return value

    @field_validator("api_key")
    @classmethod
    def _by_reference(cls, value: str | None) -> str | None:
        if value is not None and not SECRET.fullmatch(value):
            # The value itself must not be repeated: it may be the key.
            raise ValueError("must be a reference, env:NAME or file:PATH, never the key itself")
        return value


SOURCES: dict[str, type[ModelBase]] = by_kind(VllmModel, OpenAIModel)
SourceModel = Annotated[VllmModel | OpenAIModel, ByKind(SOURCES)]
