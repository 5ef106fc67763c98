"""Reads a YAML file and `key.path=value` overrides into a `FusionConfig`, and writes one back as YAML.

Owns reading, overriding and resolving paths; every mistake becomes a `ConfigErrors` with field, value, rule and remedy.
Called by the command line, by jobs and by tests. Never looks at models or machines (that is `preflight/`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.addresses import CACHE_FORMAT, default_cache_dir, is_address, is_written_as_path
from bohdi_ray.config.errors import config_errors, shown
from bohdi_ray.config.job_paths import base_of_runs
from bohdi_ray.config.plain_yaml import MAX_CHARS, MAX_DEPTH, YamlFault, read_yaml
from bohdi_ray.config.renamed import with_new_names
from bohdi_ray.errors import ConfigError, ConfigErrors

CACHE_PREFIX = "cache:"
MAX_PATH, MAX_NAME = 4096, 255  # bytes, of Linux
VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
MAX_KEY = 500  # characters of a dotted key


def load_config(path: str | Path, overrides: Sequence[str] = (), of_run: bool = False) -> FusionConfig:
    """The configuration in a file, with overrides like `stop.rounds=3` or `sources.smol.temperature=0.5`.

    Relative paths in the file are relative to the file's folder, those in overrides to the working directory. `of_run`:
    the file was stored by a run, and may use former names of settings. Raises ConfigErrors with all errors at once.
    """
    path = Path(path)
    data = read_mapping(path)
    if of_run:
        data = with_new_names(data)
    _resolve_paths(data, path.resolve().parent)
    for override in overrides:
        apply_override(data, override)
    _resolve_paths(data, Path.cwd())
    return parse_config(data)


def parse_config(data: dict[str, Any]) -> FusionConfig:
    """Makes a configuration from plain mappings and lists. Raises ConfigErrors."""
    try:
        return FusionConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigErrors(config_errors(error)) from None


def dump_config(config: FusionConfig) -> str:
    """The whole configuration as YAML, defaults included. Secrets are references, so there are none in it."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a configuration file, not validated. Raises ConfigErrors."""
    try:
        with path.open("rb") as file:
            text = file.read(4 * MAX_CHARS + 1).decode("utf-8")  # no more, were it endless
    except UnicodeDecodeError:
        raise ConfigErrors([ConfigError("CONFIG", str(path), "is not UTF-8 text", "Give a YAML file.")]) from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        remedy = "Give the path of a YAML file, jobs/configs/quickstart.yaml for example."
        why = getattr(error, "strerror", None) or error
        raise ConfigErrors([ConfigError("CONFIG", str(path), f"cannot be read ({why})", remedy)]) from None
    data = _yaml(text, "CONFIG", str(path), "Correct the YAML.")
    if not isinstance(data, dict):
        rule = "must hold a mapping with run_dir, sources and target"
        raise ConfigErrors([ConfigError("CONFIG", str(path), rule, "See docs/configuration.md.")])
    return data


def _yaml(text: str, field: str, value: object, remedy: str) -> Any:
    try:
        return read_yaml(text)
    except YamlFault as fault:
        raise ConfigErrors([ConfigError(field, value, f"is not valid YAML: {fault}", remedy)]) from None


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one value in place. List items are named by index, models also by name. Raises ConfigErrors."""
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts) or len(parts) > MAX_DEPTH or len(key) > MAX_KEY:
        remedy = "Write key.path=value, for example stop.rounds=3."
        value = shown("override", override)
        raise ConfigErrors([ConfigError("override", value, "is not of the form key.path=value", remedy)])
    value = _yaml(text, key, shown(key, text), "Quote text that holds YAML's special characters.")
    place: Any = data
    while True:
        at, parts = _next_key(place, parts, key)
        if not parts:
            break
        if isinstance(place, dict) and place.get(at) is None:
            place[at] = {}
        place = place[at]
    place[at] = value


def _next_key(place: Any, parts: list[str], whole: str) -> tuple[Any, list[str]]:
    """The key or index in `place` that the first parts name, and the remaining parts."""
    if isinstance(place, dict):
        return parts[0], parts[1:]
    if not isinstance(place, list):
        rule = f"this key has no settings below it: {'.'.join(parts)}"
        above = whole.removesuffix(f".{'.'.join(parts)}")
        raise ConfigErrors([ConfigError(whole, shown(above, place), rule, "See docs/configuration.md for the keys.")])
    if parts[0].isdecimal() and len(parts[0]) < 10 and int(parts[0]) < len(place):
        return int(parts[0]), parts[1:]
    names = [item.get("name") if isinstance(item, dict) else None for item in place]
    # A name may hold dots, so the longest one that fits is meant.
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in names:
            return names.index(name), parts[length:]
    known = (
        ", ".join([*(str(i) for i in range(len(place))), *(str(name) for name in names if name)]) or "none, it is empty"
    )
    raise ConfigErrors([ConfigError(whole, parts[0], "is not in this list", f"Use one of: {known}.")])


def _resolve_paths(data: dict[str, Any], folder: Path) -> None:
    """Make relative paths absolute, in place. Values of the wrong type are left for the models to refuse. Raises
    ConfigErrors for text that cannot be a path."""
    sources = data.get("sources")
    models = [(f"sources.{i}", model) for i, model in enumerate(sources if isinstance(sources, list) else [])]
    for place, model in [*models, ("target", data.get("target"))]:
        if isinstance(model, dict) and model.get("kind", "vllm") == "vllm" and isinstance(model.get("model"), str):
            model["model"] = model_path(f"{place}.model", model["model"], folder)
    for section, key in (("tree", "seed"), ("harvest", "prompts")):
        mapping = data.get(section)
        if isinstance(mapping, dict) and isinstance(mapping.get(key), str):
            mapping[key] = absolute_path(f"{section}.{key}", mapping[key], folder)
    evaluate = data.get("evaluate")
    if isinstance(evaluate, dict) and isinstance(tasks := evaluate.get("tasks"), list):
        evaluate["tasks"] = [_task(task, folder) if isinstance(task, str) else task for task in tasks]
    questions = data.get("questions")
    if isinstance(questions, dict) and isinstance(files := questions.get("files"), list):
        questions["files"] = [_corpus_file(file, folder) if isinstance(file, str) else file for file in files]
    if isinstance(run := data.get("run_dir"), str):
        # Not beside the file: a run belongs where the user stands.
        away = is_address(run)
        data["run_dir"] = expanded("run_dir", run) if away else absolute_path("run_dir", run, base_of_runs())


def _task(task: str, folder: Path) -> str:
    is_folder = task.startswith("$") or is_written_as_path(task)
    return absolute_path("evaluate.tasks", task, folder) if is_folder else task


def _corpus_file(file: str, folder: Path) -> str:
    field = "questions.files"
    return expanded(field, file) if is_address(file) else absolute_path(field, file, folder)


def model_path(field: str, model: str, folder: Path) -> str:
    if model.startswith(CACHE_PREFIX):
        return absolute_path(field, model.removeprefix(CACHE_PREFIX), default_cache_dir() / CACHE_FORMAT)
    plain = expanded(field, model)
    if is_written_as_path(plain) or os.path.isdir(folder / plain):
        return absolute_path(field, model, folder)
    return plain


def expanded(field: str, path: str) -> str:
    """`path` with `$NAME` and `${NAME}` replaced from the environment, as in a shell. Raises ConfigErrors for a
    variable that is not set, because nobody wants a folder called `$NAME`."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if (text := os.environ.get(name)) is None:
            rule = f"the variable {name} is not set"
            raise ConfigErrors([ConfigError(field, shown(field, path), rule, f"Set {name}, or write the full path.")])
        return text

    return VARIABLE.sub(value, path)


def absolute_path(field: str, path: str, folder: Path) -> str:
    """The absolute path of `path` relative to `folder`, with variables replaced. Raises ConfigErrors for text that
    cannot be a path."""
    # Links are not followed, so that messages show the path the user knows.
    try:
        whole = os.path.normpath(folder / Path(expanded(field, path)).expanduser())
    except RuntimeError:
        rule = "this home directory does not exist"
        raise ConfigErrors([ConfigError(field, shown(field, path), rule, "Write the full path.")]) from None
    too_long = len(os.fsencode(whole)) >= MAX_PATH or any(len(os.fsencode(p)) > MAX_NAME for p in whole.split("/"))
    if too_long or "\0" in whole:
        rule = "is too long for a path" if too_long else "contains a NUL character, which paths cannot have"
        raise ConfigErrors([ConfigError(field, shown(field, path), rule, "Give another path.")])
    return whole
