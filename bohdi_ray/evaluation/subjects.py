"""What is evaluated: a model, or a weights version of a run. Makes subjects of `RUN`, `RUN@3`, `RUN@best` and MODEL."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bohdi_ray.config import DeadlineConfig, FusionConfig, VllmModel, WeightsConfig
from bohdi_ray.config.addresses import HUB_ID, is_address
from bohdi_ray.config.errors import config_errors
from bohdi_ray.config.job_paths import run_location
from bohdi_ray.config.loading import apply_override, model_path
from bohdi_ray.engines.chat.hf_tokenizer import TEKKEN, TOKENIZER_FILES, load_tokenizer
from bohdi_ray.engines.spec import EngineSpec
from bohdi_ray.errors import ConfigError, ConfigErrors
from bohdi_ray.placement.memory.config_numbers import language_config
from bohdi_ray.placement.memory.kv_cache import kv_shape
from bohdi_ray.placement.memory.windows import default_window
from bohdi_ray.run.filesystem import place_of
from bohdi_ray.run.node_files import plain_weights
from bohdi_ray.run.run_dir import CONFIG, SUMMARY, RunDir, weights_dir
from bohdi_ray.run.state import best_scored, read_state

AT = re.compile(r"(?P<run>.+)@(?P<version>\d+|best|newest)")
LONGEST_WINDOW = 8192  # tokens of a model's window that are used unless more is asked for
AT_ONCE_ON_CPU = 32
HUB_S = 10.0
HAVE_IT = "Check the path or the name, and that this machine may read it (HF_TOKEN for gated models)."


@dataclass(frozen=True, slots=True)
class Subject:
    """One column of the table."""

    name: str
    model: VllmModel
    version: int = 0
    weights_dir: str | None = None  # of a run; its engines prove them
    run: RunDir | None = None
    config: FusionConfig | None = None  # of the run

    @property
    def path(self) -> str:
        """The folder or hub id whose weights and tokenizer these are."""
        return self.weights_dir or self.model.model

    @property
    def deadlines(self) -> DeadlineConfig:
        return self.config.deadlines if self.config is not None else DeadlineConfig()

    @property
    def window(self) -> int:
        """Tokens that its engines read; `with_window` before."""
        window = self.model.engine.max_model_len
        assert window is not None, "with_window before"
        return window

    def same_engines(self, other: Subject) -> bool:
        """Whether engines of `other` can take these weights in place: another version of the same run."""
        return self.run is not None and other.run is not None and self.run.location == other.run.location


def subjects_of(names: Sequence[str], settings: Sequence[str]) -> list[Subject]:
    """The subjects that the words of a command line name; `settings` (KEY=VALUE) change every model's section.

    Raises ConfigError for a word that names nothing, a version that is not there, and a setting that is refused.
    """
    found: list[Subject] = []
    for name in names:
        for subject in _named(name, settings):
            if all(subject.path != known.path for known in found):
                found.append(subject)
    num_parts = 0
    while len({subject.name for subject in found}) < len(found):
        num_parts += 1
        found = [replace(subject, name=_long_name(subject, num_parts)) for subject in found]
    return found


def _named(name: str, settings: Sequence[str]) -> list[Subject]:
    match = AT.fullmatch(name)
    location = match["run"] if match else name
    if match or is_address(name) or (Path(run_location(name)) / CONFIG).is_file():
        return _of_run(location, [match["version"]] if match else ["0", "newest"], settings)
    return [_of_model(name, settings)]


def _of_run(location: str, versions: Sequence[str], settings: Sequence[str]) -> list[Subject]:
    run = RunDir.open(run_location(location))
    config = run.config()
    there = [0, *(round + 1 for round in run.committed_rounds())]
    there = [version for version in there if run.place(weights_dir(version)).exists()]
    found = []
    for wanted in versions:
        version = max(there, default=0)
        if wanted == "best":
            version = best_of(run, config)
        elif wanted != "newest":
            version = int(wanted)
        if version not in there:
            rule = f"has no weights of version {version} (any more)"
            remedy = f"There are {', '.join(map(str, there)) or 'none'}; training.keep_checkpoints says how many stay."
            raise ConfigError("RUN@VERSION", f"{location}@{wanted}", rule, remedy)
        found.append(of_version(run, config, version, settings))
    return found


def of_version(run: RunDir, config: FusionConfig, version: int, settings: Sequence[str] = ()) -> Subject:
    """A weights version of a run."""
    model = _with(config.target, settings)
    return Subject(f"{model.name}@{version}", model, version, run.address(weights_dir(version)), run, config)


def _check_reachable(name: str) -> None:
    """Raises ConfigError for a hub id that this machine has not and cannot ask the hub for: its client would try for
    minutes."""
    from huggingface_hub import constants, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, "config.json"), str) or constants.HF_HUB_OFFLINE:
        return
    try:
        with urllib.request.urlopen(constants.ENDPOINT, timeout=HUB_S):
            return
    except urllib.error.HTTPError:
        return  # it is there
    except OSError as error:
        rule = f"is no folder here, and {constants.ENDPOINT} cannot be asked for it ({error})"
        raise ConfigError("MODEL", name, rule, "Name a folder (`./NAME`), or mend the connection.") from None


def best_of(run: RunDir, config: FusionConfig) -> int:
    """The version that RUN/best is, or would be now. Raises ConfigError while nothing is measured."""
    if run.exists(SUMMARY) and (best := json.loads(run.read_bytes(SUMMARY)).get("best_version")) is not None:
        return best
    state = read_state(run, max((round + 1 for round in run.committed_rounds()), default=0))
    if (scored := best_scored(config, state.evaluated, state.num_trained)) is not None:
        return scored
    if not state.best_rows:
        rule = "has no best version yet: nothing is measured"
        raise ConfigError("RUN@best", run.location, rule, "Name a version by its number, or newest.")
    return state.best_version


def _of_model(name: str, settings: Sequence[str]) -> Subject:
    path = model_path("MODEL", name, Path.cwd())
    if not Path(path).is_absolute():
        if not HUB_ID.fullmatch(path):
            rule = "is no run, no folder and no hub id"
            raise ConfigError("MODEL", name, rule, "Name a run, a model's folder, `cache:NAME`, or a hub id.")
        _check_reachable(path)
    elif not (Path(path) / "config.json").is_file():
        rule = "is neither a run (no config.yaml in it) nor a model (no config.json)"
        remedy = "Name a run's directory, or a folder in Hugging Face layout."
        raise ConfigError("MODEL", name, rule, remedy)
    short = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(path).name).strip("-._")[:64] or "model"
    return Subject(short, _with(VllmModel(name=short, model=path), settings))


def _with(model: VllmModel, settings: Sequence[str]) -> VllmModel:
    data = model.model_dump(exclude_none=True)
    for setting in settings:
        apply_override(data, setting)
    try:
        return VllmModel.model_validate(data)
    except ValidationError as error:
        raise ConfigErrors(config_errors(error, VllmModel)) from None


def _long_name(subject: Subject, num_parts: int) -> str:
    """The last parts of where it lies, and the version."""
    where = subject.run.location if subject.run is not None else subject.model.model
    parts = [part for part in re.split(r"[/\\]", where) if part]
    return "/".join(parts[-num_parts:]) + (f"@{subject.version}" if subject.run is not None else "")


def with_window(subject: Subject, window: int | None = None) -> Subject:
    """With `engine.max_model_len` set: to `window`, else as asked, else to the model's own window up to
    LONGEST_WINDOW."""
    model = subject.model
    window = window or model.engine.max_model_len
    if window is None:
        window = min(default_window(language_config(_config_json(subject))) or LONGEST_WINDOW, LONGEST_WINDOW)
    engine = model.engine.model_copy(update={"max_model_len": window})
    return replace(subject, model=model.model_copy(update={"engine": engine}))


def resolved(subject: Subject, on_gpus: bool, num_replicas: int, num_cpus: float) -> Subject:
    """The subject with what its engines need on this cluster: GPUs if there are any, else a share of the CPUs and a
    KV cache for some requests of the whole window. Raises ConfigError for engines that an evaluation cannot start."""
    subject = with_window(subject)
    model = subject.model
    engine, resources = model.engine, model.resources
    if engine.pipeline_parallel_size > 1:
        rule, remedy = "an evaluation starts engines on one node each", "Use tensor_parallel_size, or a smaller model."
        raise ConfigError("engine.pipeline_parallel_size", engine.pipeline_parallel_size, rule, remedy)
    if resources.num_gpus and not on_gpus:
        rule, remedy = "this cluster has no GPU", "Give --address of one that has, or --set resources.num_gpus=0."
        raise ConfigError("resources.num_gpus", resources.num_gpus, f"{subject.name} asks for it, and {rule}", remedy)
    if resources.num_gpus is None:
        num_gpus = engine.tensor_parallel_size if on_gpus else 0
        resources = resources.model_copy(update={"num_gpus": float(num_gpus)})
    if not resources.num_gpus:
        resources = resources.model_copy(update={"num_cpus": max(0.1, num_cpus / num_replicas)})
        at_once = min(engine.max_num_seqs, AT_ONCE_ON_CPU)
        engine = engine.model_copy(update={"max_num_seqs": at_once, "enforce_eager": True})
        served = model.model_copy(update={"engine": engine, "resources": resources})
        kept = max(engine.kv_cache_memory_bytes or 0, _kv_room(subject, served, subject.window))
        engine = engine.model_copy(update={"kv_cache_memory_bytes": kept, "gpu_memory_utilization": 0.2})
    update: dict[str, Any] = {"engine": engine, "resources": resources}
    if _is_hub_id(subject.path):
        update["revision"] = _hub_commit(subject.path, model.revision)
    return replace(subject, model=model.model_copy(update=update))


def _is_hub_id(path: str) -> bool:
    return not is_address(path) and not Path(path).is_absolute()


def _config_json(subject: Subject) -> dict[str, Any]:
    """Raises ConfigError if it cannot be had or read."""
    try:
        if not _is_hub_id(subject.path):
            return json.loads(place_of(subject.path).child("config.json").read_bytes())
        from transformers import PretrainedConfig

        return PretrainedConfig.get_config_dict(subject.path, revision=subject.model.revision)[0]
    except (OSError, ValueError) as error:
        rule = f"its config.json cannot be read: {' '.join(str(error).split())[:300]}"
        raise ConfigError("MODEL", subject.path, rule, HAVE_IT) from None


def tokenizer_of(subject: Subject) -> Any:
    """Its Hugging Face tokenizer. Raises ConfigError if there is none."""
    options: dict[str, Any] = {"trust_remote_code": subject.model.trust_remote_code}
    if subject.model.revision is not None:
        options["revision"] = subject.model.revision
    try:
        with plain_weights(subject.path) as path:  # of a run on an object store they are fetched to this node
            files = [Path(path) / file for file in (*TOKENIZER_FILES, TEKKEN)]
            if Path(path).is_absolute() and not any(file.is_file() for file in files):
                rule, remedy = "has no tokenizer file in it", "Copy the model's tokenizer there."
                raise ConfigError("MODEL", subject.path, rule, remedy)
            return load_tokenizer(path, **options)
    except (OSError, ValueError, ImportError) as error:
        rule = f"its tokenizer cannot be read: {' '.join(str(error).split())[:300]}"
        raise ConfigError("MODEL", subject.path, rule, HAVE_IT) from None


def _kv_room(subject: Subject, model: VllmModel, window: int) -> int:
    """Bytes of KV cache for two requests of the whole window, at least 300 MB."""
    shape = kv_shape(language_config(_config_json(subject)))
    needed = shape.needed_bytes(2 * window, model) if shape is not None else 0.0
    return max(300_000_000, int(needed))


def spec_of(subject: Subject, seed: int = 0) -> EngineSpec:
    """What its engines are built from; `resolved` before."""
    deadlines, config = subject.deadlines, subject.config
    return EngineSpec(
        model=subject.model,
        path=subject.path,
        weights_version=subject.version,
        proves=subject.weights_dir is not None,
        seed=seed,
        device="cuda" if subject.model.resources.num_gpus else "cpu",
        idle_s=deadlines.idle_s,
        request_s=deadlines.request_s,
        weights_s=deadlines.weights_s,
        tolerance=(config.weights if config is not None else WeightsConfig()).tolerance,
    )


def _hub_commit(name: str, revision: str | None) -> str:
    """The commit of the hub model's files that this machine has; its tokenizer was fetched before."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(found, str):
        raise ConfigError("MODEL", name, "its commit is not known", "Give it: --set revision=COMMIT.")
    return Path(found).parent.name
