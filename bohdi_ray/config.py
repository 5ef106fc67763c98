"""The whole configuration of a fusion, with its rules. No defaults live anywhere else.

Every section is a pydantic model; unknown keys are refused. Rules that one section can check alone stand on it, rules
between sections on `FusionConfig`. Whether folders exist, templates are there and cards suffice is checked in
`preflight.py`; reading files and overrides is in `config_loading.py`.
Where the paper fixes a value and the default differs, the field says so.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from bohdi_ray.errors import ConfigError, ConfigErrors
from bohdi_ray.records import Role

# The paper's six ways to ask (section 4 of the method), in our own words.
DEFAULT_STYLES = (
    "a hard problem that has to be solved step by step",
    "an open-ended question that several points of view can answer well",
    "a task that needs a short program or piece of code",
    "a comparison that is best answered with a table",
    "a question that links this field to a different one",
    "an everyday conversation in which a person asks for help, in a clearly set tone",
)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SECRET = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


class RoleSampling(Section):
    """How one role's texts are sampled. Unset fields take the role's default."""

    temperature: float | None = Field(None, ge=0, le=2)
    """0 is greedy. Default: the model's own `temperature`; 0 for the judge."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Default: 0.95 to sprout and to ask, 0.8 to answer (the paper's)."""
    max_tokens: int | None = Field(None, ge=1)
    """Most tokens decoded. Default: 4096 for an answer (the paper's), 512 for a question, 64 for a domain name."""


ROLE_DEFAULTS: dict[Role, RoleSampling] = {
    "sprout": RoleSampling(top_p=0.95, max_tokens=64),
    "question": RoleSampling(top_p=0.95, max_tokens=512),
    "answer": RoleSampling(top_p=0.8, max_tokens=4096),
    "judge": RoleSampling(top_p=1.0, max_tokens=8),
}


class Sampling(Section):
    """Sampling of one model by role."""

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

    tensor_parallel_size: int = Field(1, ge=1)
    """GPUs one replica is split over, inside one node."""
    pipeline_parallel_size: int = Field(1, ge=1)
    """Stages one replica is split into, across nodes."""
    max_model_len: int | None = Field(None, ge=64)
    """Longest prompt plus answer, tokens. Default: the model's own."""
    max_num_seqs: int = Field(256, ge=1)
    """Most requests decoded together."""
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    """Share of a card's memory (on a CPU: of the machine's) vLLM may take."""
    kv_cache_memory_bytes: int | None = Field(None, ge=1)
    """Memory for the KV cache; overrides what is derived from gpu_memory_utilization. Set it on a CPU."""
    enforce_eager: bool = False
    """Skip compilation: starts faster, decodes slower on a GPU. Set it on a CPU."""
    load_format: str | None = None
    """vLLM's load format, for example `dummy` for random weights in a speed measurement."""
    extra: dict[str, Any] = {}
    """Further fields of vLLM's AsyncEngineArgs, passed on as they are."""


class ReplicaResources(Section):
    """What Ray must have free for one replica."""

    num_gpus: float | None = Field(None, ge=0)
    """GPUs, or a share of one below 1. Default: tensor_parallel_size * pipeline_parallel_size; 0 on a CPU cluster."""
    num_cpus: float = Field(1, ge=0)
    """CPU slots."""
    memory_gb: float | None = Field(None, gt=0)
    """Main memory, GB, reserved with Ray. Default: not reserved."""


class ModelBase(Section):
    name: str
    """Short name used in tables, files and records; letters, digits, `_`, `.`, `-`."""
    system_prompt: str | None = None
    """Sent with every request to this model; folded into the user turn where its template has no system role."""
    temperature: float = Field(0.7, ge=0, le=2)
    """Temperature of all roles but the judge's, where a role sets none."""
    sampling: Sampling = Sampling()
    """Finer settings by role: `sprout`, `question`, `answer`, `judge`."""

    def sampling_of(self, role: Role) -> RoleSampling:
        """This model's sampling for one role, every field set."""
        own, default = getattr(self.sampling, role), ROLE_DEFAULTS[role]
        temperature = 0.0 if role == "judge" else self.temperature
        return RoleSampling(
            temperature=temperature if own.temperature is None else own.temperature,
            top_p=default.top_p if own.top_p is None else own.top_p,
            max_tokens=default.max_tokens if own.max_tokens is None else own.max_tokens,
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
    """Hosted here."""
    model: str
    """A folder in Hugging Face layout (absolute, or `./…` beside the configuration file), `cache:NAME`, or a hub id."""
    revision: str | None = None
    """Commit of a hub model. Pin it."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of the weights in the engine."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Needs a pinned revision or a local folder."""
    engine: EngineArgs = EngineArgs()
    """Arguments of the engine."""
    resources: ReplicaResources = ReplicaResources()
    """Resources of one replica."""
    replicas: int = Field(1, ge=1)
    """Engines of this model."""
    max_in_flight: int = Field(256, ge=1)
    """Requests one replica holds at a time, waiting ones included."""

    @model_validator(mode="after")
    def _pinned_code(self) -> VllmModel:
        local = self.model.startswith(("/", "./", "../", "~"))
        if self.trust_remote_code and self.revision is None and not local:
            raise ValueError("trust_remote_code runs a stranger's code: pin `revision` to the commit you have read")
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
    """Served elsewhere."""
    model: str
    """The name the server knows the model by."""
    base_url: str
    """The server's address up to and including `/v1`."""
    api_key: str | None = None
    """Reference to the key: `env:NAME` or `file:PATH`, read where it is used, never the key itself."""
    max_in_flight: int = Field(16, ge=1)
    """Requests sent at a time by this run."""
    max_retries: int = Field(6, ge=0)
    """Retries with jitter on 429, 5xx and time-outs."""
    timeout_s: float = Field(300, gt=0)
    """Time one request may take, s."""
    price_per_million_prompt_tokens: float = Field(0, ge=0)
    """For `stop.cost`, in any currency."""
    price_per_million_output_tokens: float = Field(0, ge=0)
    """For `stop.cost`, in the same currency."""

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


def _kind(value: Any) -> str:
    """The tag of a source; a plain `discriminator="kind"` would refuse a source that leaves `kind` to its default."""
    if isinstance(value, dict):
        return value.get("kind", "vllm")
    return "openai" if isinstance(value, OpenAIModel) else "vllm"


SourceModel = Annotated[
    Annotated[VllmModel, Tag("vllm")] | Annotated[OpenAIModel, Tag("openai")],
    Discriminator(
        _kind, custom_error_type="unknown_kind", custom_error_message="the kinds of source are 'vllm' and 'openai'"
    ),
]


class TreeConfig(Section):
    """The knowledge tree (method, section 1)."""

    depth: int = Field(3, ge=1)
    """Levels below the root; leaves are questions' domains."""
    level_names: tuple[str, ...] | None = None
    """What a child is called in prompts, by level. Default for depth 3: main domain, secondary domain, sub-domain."""
    seed: str | None = None
    """A YAML file of starting domains (nested mappings and lists), validated like proposals."""
    max_children: tuple[int, ...] | None = None
    """Most children of a node, by level of the child; there the node's `unk` arm is closed. Default: no limit."""

    @model_validator(mode="after")
    def _per_level(self) -> TreeConfig:
        for name in ("level_names", "max_children"):
            value = getattr(self, name)
            if value is not None and len(value) != self.depth:
                raise ValueError(f"{name} has {len(value)} entries; it needs one per level, {self.depth}")
        if self.max_children is not None and min(self.max_children) < 1:
            raise ValueError("max_children must be 1 or more at every level")
        return self


class SproutConfig(Section):
    """How new domains are found (method, section 3)."""

    proposals_per_source: int = Field(5, ge=1)
    """Names each source proposes per election (n)."""
    max_failures: int = Field(10, ge=1)
    """Failed elections of one walk at one node after which the node's `unk` arm is closed for the round."""
    reuse_ballots: bool = True
    """Losing names stay as votes at their node, so its next sprout needs no generation. The paper: false."""
    requests_ahead: int = Field(1, ge=0)
    """Further elections at a waiting node whose proposals are requested before they are needed."""


class BanditConfig(Section):
    """Posteriors and introspection (method, sections 5 and 6)."""

    policy: Literal["dynabranches"] = "dynabranches"
    """How credit steers the walks: `dynabranches` is the paper's Beta posteriors with Thompson sampling."""
    window: int = Field(20, ge=1)
    """Rewards in a node's sliding window (w)."""
    introspection: bool = True
    """Whether changed nodes are reborn (IR)."""
    threshold: float = Field(0.2, ge=0, le=1)
    """A node is reborn when the test's p-value is below this (u)."""


class MeditationConfig(Section):
    """Exploring: the harvest part of a round (method, section 7)."""

    steps: int = Field(3, ge=1)
    """Steps per round (M)."""
    walks_per_step: int = Field(30, ge=1)
    """Walks, and so harvests, per step (B_m)."""


class EnlightenmentConfig(Section):
    """Which rows the target learns from in a round (method, section 7)."""

    steps: int = Field(3, ge=1)
    """Batches of draws (E)."""
    rows_per_step: int = Field(60, ge=1)
    """Rows drawn per batch (B_e); a round trains on steps * rows_per_step rows."""


class HarvestConfig(Section):
    """How samples are made (method, section 4), and how much of it at a time."""

    styles: tuple[str, ...] = DEFAULT_STYLES
    """Ways to ask; one is drawn uniformly per ticket."""
    min_question_chars: int = Field(30, ge=0)
    """A question must be longer than this."""
    min_answer_chars: int = Field(30, ge=0)
    """An answer must be longer than this."""
    question_attempts: int = Field(2, ge=1)
    """Tries to get a valid question before the ticket fails."""
    heldout_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of questions kept for measuring: they are never trained on and give no credit. The paper: 0."""
    max_staleness: Literal[0, 1, 2] = 1
    """Round r harvests with the target of round r minus this. 0 (the paper): harvest, then train; 1: both at once."""
    step_lag: int = Field(1, ge=0)
    """The walks of step s see the credit committed through step s - 1 - step_lag. The paper: 0."""
    max_tasks_in_flight: int = Field(16, ge=1)
    """Harvest tasks at a time."""
    tickets_per_task: int = Field(4, ge=1)
    """Most tickets one task works on, all at once."""
    min_sources: int = Field(1, ge=1)
    """The run stops when fewer sources than this are left."""
    prompts: str | None = None
    """A folder whose *.jinja files replace the prompt templates of the same name."""

    @field_validator("styles")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or any(not style.strip() for style in value):
            raise ValueError("needs at least one style, none of them empty")
        return value


class JudgeConfig(Section):
    """Who decides which answer is best (method, sections 4 and 9)."""

    policy: Literal["leader", "others", "likelihood"] = "leader"
    """`leader` (the paper): the question's author. `others`: it never judges its own answer, another source does.
    `likelihood`: each model ranks the answers it did not write by log-probability per byte; the mean rank decides."""
    orders: int = Field(1, ge=1)
    """Rotations of one random order whose label probabilities are averaged; as many as answers balance every slot."""


class ScheduleConfig(Section):
    """The learning rate over all rounds of the run, by optimizer step."""

    kind: Literal["constant", "linear", "cosine"] = "constant"
    """Shape after the warm-up."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the rate rises linearly from 0."""
    total_steps: int | None = Field(None, ge=1)
    """Step at which linear and cosine reach `min_ratio`. Default: what `stop.rounds` rounds take."""
    min_ratio: float = Field(0.1, ge=0, le=1)
    """Rate at the end, as a share of the full one."""


class TrainingConfig(Section):
    """Fine-tuning of the target with DeepSpeed under Ray Train."""

    learning_rate: float = Field(5e-6, ge=0)
    """Of AdamW. The paper: 5e-6."""
    weight_decay: float = Field(0.0, ge=0)
    """Of AdamW."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate by step."""
    global_batch_size: int = Field(128, ge=1)
    """Most rows per optimizer step; a round's steps differ in size by at most one. The paper: 128."""
    micro_batch_size: int = Field(1, ge=1)
    """Rows (with packing: packs) a worker puts through the model at once."""
    max_length: int = Field(8192, ge=16)
    """Tokens a row may have; a longer one loses the end of its answer. The paper: 8192."""
    packing: bool = True
    """Put several rows into one sequence where the attention implementation keeps them apart; else rows are padded."""
    gradient_clipping: float = Field(1.0, ge=0)
    """Largest gradient norm; 0 turns clipping off. The paper: 1.0."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of training; the optimizer keeps float32 masters."""
    attn_implementation: str = "sdpa"
    """transformers' attention implementation."""
    reset_optimizer: bool = False
    """Start AdamW afresh every round. The paper: true."""
    num_workers: int = Field(1, ge=1)
    """Train workers (ranks)."""
    resources_per_worker: dict[str, float] = {"CPU": 1}
    """Ray resources of one worker; `GPU: 1` is added where the cluster has GPUs and none is named."""
    deepspeed: dict[str, Any] = {"zero_optimization": {"stage": 2}}
    """A plain DeepSpeed configuration; batch sizes, precision, clipping and optimizer are filled in from above."""
    save_optimizer_every: int = Field(1, ge=1)
    """Rounds between saved optimizer states; weights are committed every round."""
    keep_checkpoints: int = Field(3, ge=1)
    """Newest committed rounds kept, beside version 0, the best one, and any a harvest may still use."""
    max_failures: int = Field(3, ge=0)
    """Times Ray Train may restart the workers."""


class StopConfig(Section):
    """When the run ends; the first rule that holds wins, at the end of a round."""

    rounds: int = Field(19, ge=1)
    """Rounds. The paper: about 19."""
    samples: int | None = Field(None, ge=1)
    """Accepted samples."""
    decoded_tokens: int | None = Field(None, ge=1)
    """Tokens decoded by all models."""
    wall_time_s: float | None = Field(None, gt=0)
    """Seconds since the run began."""
    cost: float | None = Field(None, gt=0)
    """Spent on remote sources, in the currency of their prices."""
    no_gain_rounds: int | None = Field(None, ge=1)
    """Rounds in a row without a lower held-out loss."""


class DeadlineConfig(Section):
    """Longest waits, s. A passed deadline replaces a part or stops the run; it never fails a ticket."""

    start_s: float = Field(1800, gt=0)
    """For an engine or a train worker to be up, its model loaded."""
    placement_s: float = Field(600, gt=0)
    """For Ray to find room."""
    request_s: float = Field(900, gt=0)
    """For one request to an engine."""
    idle_s: float = Field(120, gt=0)
    """Without a token while requests are in flight, after which an engine counts as hung."""
    train_step_s: float = Field(3600, gt=0)
    """For one training step or the saving of a round."""
    weights_s: float = Field(600, gt=0)
    """For a replica to load new weights and prove them."""
    drain_s: float = Field(60, gt=0)
    """For work under way after Ctrl-C."""


class WeightsConfig(Section):
    """How new weights are proved live on the target's engines."""

    tolerance: float = Field(0.15, gt=0)
    """Largest mean absolute difference per token of trainer and engine log-probabilities on the probe prompts, nats."""


class ObserveConfig(Section):
    """What is written for people to watch. metrics.jsonl is always written."""

    tensorboard: bool = False
    """Write TensorBoard event files into the run directory."""
    console: Literal["auto", "live", "lines", "quiet"] = "auto"
    """A live view on a terminal, plain lines otherwise."""


class FusionConfig(Section):
    """A whole fusion."""

    run_dir: str
    """Where the run writes everything; `{time}` is replaced. Any pyarrow filesystem: a path, s3://, gs://."""
    seed: int = Field(0, ge=0)
    """Of every random draw."""
    sources: tuple[SourceModel, ...]
    """The models that teach."""
    target: VllmModel
    """The model that learns."""
    tree: TreeConfig = TreeConfig()
    """The knowledge tree."""
    sprout: SproutConfig = SproutConfig()
    """Finding new domains."""
    bandit: BanditConfig = BanditConfig()
    """Steering."""
    meditation: MeditationConfig = MeditationConfig()
    """Walks per round."""
    enlightenment: EnlightenmentConfig = EnlightenmentConfig()
    """Training rows per round."""
    harvest: HarvestConfig = HarvestConfig()
    """Making samples."""
    judge: JudgeConfig = JudgeConfig()
    """Choosing the best answer."""
    training: TrainingConfig = TrainingConfig()
    """Fine-tuning the target."""
    weights: WeightsConfig = WeightsConfig()
    """Proving new weights."""
    stop: StopConfig = StopConfig()
    """When to stop."""
    deadlines: DeadlineConfig = DeadlineConfig()
    """Longest waits."""
    observe: ObserveConfig = ObserveConfig()
    """Watching."""

    @model_validator(mode="after")
    def _rules_between_sections(self) -> FusionConfig:
        check_between_sections(self)
        return self

    @property
    def rows_per_round(self) -> int:
        """E * B_e."""
        return self.enlightenment.steps * self.enlightenment.rows_per_step

    @property
    def walks_per_round(self) -> int:
        """M * B_m."""
        return self.meditation.steps * self.meditation.walks_per_step

    def model(self, name: str) -> VllmModel | OpenAIModel:
        """The source or target of this name."""
        return next(m for m in (*self.sources, self.target) if m.name == name)


def check_between_sections(config: FusionConfig) -> None:
    """Rules that need more than one section. Raises ConfigErrors with all that are broken."""
    errors = [*_errors_of_models(config), *_errors_of_judging(config), *_errors_of_stopping(config)]
    if errors:
        raise ConfigErrors(errors)


def _errors_of_models(config: FusionConfig) -> list[ConfigError]:
    if not config.sources:
        return [ConfigError("sources", [], "a fusion needs at least one source", "Add a model under `sources:`.")]
    errors = []
    fields = {f"sources.{i}.name": source.name for i, source in enumerate(config.sources)}
    fields["target.name"] = config.target.name
    seen: set[str] = set()
    for field, name in fields.items():
        if name in seen:
            errors.append(ConfigError(field, name, "names of sources and target must differ", "Rename the model."))
        seen.add(name)
    if config.harvest.min_sources > len(config.sources):
        errors.append(
            ConfigError(
                "harvest.min_sources",
                config.harvest.min_sources,
                f"the number of sources is {len(config.sources)}",
                "Lower it, or add sources.",
            )
        )
    return errors


def _errors_of_judging(config: FusionConfig) -> list[ConfigError]:
    if config.judge.policy == "others" and len(config.sources) < 2:
        rule = "the only source would have to judge its own answer"
        return [ConfigError("judge.policy", "others", rule, "Add a source or use `leader`.")]
    if config.judge.policy == "likelihood":
        remote = [source.name for source in config.sources if source.kind == "openai"]
        if remote:
            rule = f"OpenAI's chat interface cannot score a given answer, and {', '.join(remote)} is behind it"
            remedy = "Use `leader` or `others`, or host the model with kind: vllm."
            return [ConfigError("judge.policy", "likelihood", rule, remedy)]
    return []


def _errors_of_stopping(config: FusionConfig) -> list[ConfigError]:
    errors = []
    priced = any(
        source.kind == "openai" and source.price_per_million_prompt_tokens + source.price_per_million_output_tokens > 0
        for source in config.sources
    )
    if config.stop.cost is not None and not priced:
        remedy = "Give remote sources their prices, remove the rule, or use `stop.decoded_tokens`."
        errors.append(ConfigError("stop.cost", config.stop.cost, "no source has a price", remedy))
    if config.stop.no_gain_rounds is not None and config.harvest.heldout_fraction == 0:
        rule = "there is no held-out loss when harvest.heldout_fraction is 0"
        remedy = "Hold out a share, 0.1 for example."
        errors.append(ConfigError("stop.no_gain_rounds", config.stop.no_gain_rounds, rule, remedy))
    return errors
