"""The content of a submitted job: this package, the configuration, and the local files that it names. No Ray.

All errors that can be found locally are found here, before anything is sent. Paths mean: models and absolute run
directories are the cluster's, starting domains and prompts are this machine's and travel along, a relative run
directory is below `$BOHDI_HOME` or the home directory on the cluster (config/job_paths.py). `cache:`, `~` and `$NAME`
are resolved there, too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

import bohdi_ray
from bohdi_ray.config import FusionConfig
from bohdi_ray.config.addresses import HUB_ID, is_address
from bohdi_ray.config.job_paths import KEPT_AS, in_rays_session
from bohdi_ray.config.loading import CACHE_PREFIX, absolute_path, apply_override, parse_config, read_mapping
from bohdi_ray.config.run_naming import unreserved_name
from bohdi_ray.errors import ConfigError, ConfigErrors
from bohdi_ray.submit.literal_secrets import literal_secrets, looks_secret
from bohdi_ray.training.zero.config import check_deepspeed
from bohdi_ray.tree.names import read_seeds, seed_paths

CONFIG_NAME = "fusion.yaml"
CODE = ("*.py", "*.jinja", "common_knowledge.txt")


@dataclass(slots=True)
class JobPackage:
    """One job's files, by their name in its working directory, and notices for the user about them."""

    config: FusionConfig
    files: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def write(self, folder: Path, with_package: bool) -> None:
        """Writes everything into an empty folder, which is then uploaded."""
        if with_package:
            copy_package(folder)
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


def copy_package(folder: Path) -> None:
    """The code of this package, without caches, into `folder`."""
    source = Path(bohdi_ray.__file__).parent
    for pattern in CODE:
        for path in source.rglob(pattern):
            into = folder / source.name / path.relative_to(source)
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, into)


def prepare(path: Path, overrides: Sequence[str], now: datetime) -> JobPackage:
    """The job package for a configuration file with overrides; `now` replaces `{time}` in its run directory.

    Relative paths in the file are relative to the file's folder, those in overrides to the working directory. Raises
    ConfigErrors with all errors that can be found here.
    """
    data = read_mapping(path)
    problems = _settle_paths(data, path.resolve().parent)
    for override in overrides:
        apply_override(data, override)
    problems += _settle_paths(data, Path.cwd())
    problems += literal_secrets(data)
    if problems:
        raise ConfigErrors(problems)
    if isinstance(data.get("run_dir"), str):
        data["run_dir"] = unreserved_name(data["run_dir"], now)
    shipment = JobPackage(parse_config(data))
    problems += _check(shipment)
    problems += _take_seed(data, shipment)
    problems += _take_prompts(data, shipment)
    if problems:
        raise ConfigErrors(problems)
    _note_references(shipment)
    shipment.files[CONFIG_NAME] = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110).encode()
    return shipment


def _settle_paths(data: dict[str, Any], folder: Path) -> list[ConfigError]:
    """Makes local paths absolute, in place, and leaves those of the cluster; returns errors for paths that are valid on
    neither."""
    problems = []
    sources = data.get("sources")
    models = [(f"sources.{i}", model) for i, model in enumerate(sources if isinstance(sources, list) else [])]
    for place, model in [*models, ("target", data.get("target"))]:
        if isinstance(model, dict) and model.get("kind", "vllm") == "vllm" and isinstance(model.get("model"), str):
            problems += _model_problems(f"{place}.model", model["model"], folder)
    evaluate = data.get("evaluate")
    tasks = evaluate.get("tasks") if isinstance(evaluate, dict) else None
    for task in tasks if isinstance(tasks, list) else []:
        if isinstance(task, str) and task.startswith(("./", "../")):
            rule = "is a folder of this machine, and tasks are not uploaded"
            remedy = "Give the path that the folder has on the cluster's head node, or a task of lm-eval."
            problems.append(ConfigError("evaluate.tasks", task, rule, remedy))
    questions = data.get("questions")
    files = questions.get("files") if isinstance(questions, dict) else None
    for file in files if isinstance(files, list) else []:
        if isinstance(file, str) and not file.startswith(("/", "~", "$")) and not is_address(file):
            rule = "is a file of this machine, and a corpus is not uploaded"
            remedy = "Give the path that it has on all of the cluster's nodes, or an address."
            problems.append(ConfigError("questions.files", file, rule, remedy))
    for section, key in (("tree", "seed"), ("harvest", "prompts")):
        mapping = data.get(section)
        if isinstance(mapping, dict) and isinstance(mapping.get(key), str):
            mapping[key] = absolute_path(f"{section}.{key}", mapping[key], folder)
    if isinstance(run := data.get("run_dir"), str) and not is_address(run):
        run = data["run_dir"] = os.path.normpath(run)
        if run.startswith(".."):
            rule = "is outside the folder on the cluster that contains relative run directories"
            problems.append(ConfigError("run_dir", run, rule, "Give the full path on the cluster, or an address."))
        elif in_rays_session(run):
            rule = "it is in the folder of a Ray session, which Ray removes"
            problems.append(ConfigError("run_dir", run, rule, "Give a path that the cluster's nodes keep."))
    return problems


def _model_problems(at: str, model: str, folder: Path) -> list[ConfigError]:
    if model.startswith((CACHE_PREFIX, "/", "~", "$")):
        return []
    if model.startswith(("./", "../")) or (folder / model).is_dir():
        rule = "is a folder of this machine, and weights are not uploaded"
        remedy = "Give the path that the folder has on the cluster's nodes, or a hub id (`owner/name`)."
    elif HUB_ID.fullmatch(model):
        return []
    else:
        rule = "is neither a path nor a hub id"
        remedy = "Give a path on the cluster's nodes, or a hub id (`owner/name`)."
    return [ConfigError(at, model, rule, remedy)]


def _check(shipment: JobPackage) -> list[ConfigError]:
    try:
        check_deepspeed(shipment.config.training.deepspeed)
    except ConfigError as error:
        return [error]
    return []


def _take_seed(data: dict[str, Any], shipment: JobPackage) -> list[ConfigError]:
    """Packs the starting domains, if this machine has the file."""
    seed = shipment.config.tree.seed
    if seed is None:
        return []
    if not Path(seed).exists():
        shipment.notes.append(f"tree.seed: {seed} is not on this machine; the head node needs it")
        return []
    try:
        text = Path(seed).read_text("utf-8")
        seed_paths(read_seeds(text), shipment.config.tree)
    except (OSError, UnicodeDecodeError) as error:
        return [ConfigError("tree.seed", seed, f"cannot be read ({error})", "Give a YAML file, or leave it out.")]
    except ConfigError as error:
        return [error]
    return _pack("tree.seed", {KEPT_AS["tree.seed"]: text}, data["tree"], "seed", shipment)


def _take_prompts(data: dict[str, Any], shipment: JobPackage) -> list[ConfigError]:
    """Packs the prompt templates, if this machine has the folder."""
    prompts = shipment.config.harvest.prompts
    if prompts is None:
        return []
    if not Path(prompts).is_dir():
        shipment.notes.append(f"harvest.prompts: {prompts} is no folder of this machine; the head node needs it")
        return []
    try:
        from bohdi_ray.engines.prompts import load_templates

        load_templates(prompts)
    except ConfigErrors as errors:
        return errors.errors
    except ImportError:
        shipment.notes.append("harvest.prompts: jinja2 is not installed here, so the templates are checked by the job")
    folder = KEPT_AS["harvest.prompts"]
    try:
        texts = {f"{folder}/{path.name}": path.read_text("utf-8") for path in sorted(Path(prompts).glob("*.jinja"))}
    except (OSError, UnicodeDecodeError) as error:
        rule = f"cannot be read as UTF-8 text ({error})"
        return [ConfigError("harvest.prompts", prompts, rule, "Save the templates as UTF-8.")]
    return _pack("harvest.prompts", texts, data["harvest"], "prompts", shipment)


def _pack(
    name: str, texts: dict[str, str], section: dict[str, Any], key: str, shipment: JobPackage
) -> list[ConfigError]:
    """Adds files to the job package and sets the setting to their path in the job, next to its configuration."""
    secret = [file for file, text in texts.items() if looks_secret(text)]
    if secret:
        rule = f"{secret[0]} holds what looks like a key or password, and the cluster would store and show it"
        return [ConfigError(name, section[key], rule, "Take it out.")]
    shipment.files.update({file: text.encode() for file, text in texts.items()})
    section[key] = f"./{KEPT_AS[name]}"
    return []


def _note_references(shipment: JobPackage) -> None:
    for i, source in enumerate(shipment.config.sources):
        if source.kind == "openai" and source.api_key is not None:
            what = "variable" if source.api_key.startswith("env:") else "file"
            shipment.notes.append(f"sources.{i}.api_key: {source.api_key} is a {what} of the cluster's nodes; not sent")
