"""From a YAML file and `key.path=value` overrides to a `FusionConfig`, and back to YAML.

Owns reading, overriding and resolving paths; every mistake becomes a `ConfigErrors` with field, value, rule and remedy.
Called by the command line, by jobs and by tests. Never looks at models or machines (that is `preflight.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from bohdi_ray.config import FusionConfig
from bohdi_ray.config_errors import config_errors
from bohdi_ray.errors import ConfigError, ConfigErrors
from bohdi_ray.quickstart import CACHE_FORMAT, default_cache_dir

CACHE_PREFIX = "cache:"


class _Loader(yaml.SafeLoader):
    """YAML's safe subset, with `5e8` read as a number (PyYAML reads it as text) and repeated keys refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice in one mapping", node.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+"), list("-+0123456789")
)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> FusionConfig:
    """The configuration in a file, with overrides like `stop.rounds=3` or `sources.smol.temperature=0.5`.

    Relative paths in the file are beside the file, those in overrides below the working directory. Raises ConfigErrors
    with everything that is wrong at once.
    """
    path = Path(path)
    data = _read(path)
    _resolve_paths(data, path.resolve().parent)
    for override in overrides:
        apply_override(data, override)
    _resolve_paths(data, Path.cwd())
    return parse_config(data)


def parse_config(data: dict[str, Any]) -> FusionConfig:
    """The configuration in plain mappings and lists. Raises ConfigErrors."""
    try:
        return FusionConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigErrors(config_errors(error)) from None


def dump_config(config: FusionConfig) -> str:
    """The whole configuration as YAML, defaults included. Secrets are references, so there are none in it."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def with_run_dir(config: FusionConfig, now: datetime) -> FusionConfig:
    """`{time}` in `run_dir` replaced, so that the run has one name from here on."""
    return config.model_copy(update={"run_dir": config.run_dir.replace("{time}", now.strftime("%Y%m%d-%H%M%S"))})


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        remedy = "Give the path of a YAML file, jobs/configs/quickstart.yaml for example."
        raise ConfigErrors([ConfigError("CONFIG", str(path), f"cannot be read ({error.strerror})", remedy)]) from None
    except UnicodeDecodeError:
        raise ConfigErrors([ConfigError("CONFIG", str(path), "is not UTF-8 text", "Give a YAML file.")]) from None
    data = _yaml(text, "CONFIG", str(path), "Mend the YAML.")
    if not isinstance(data, dict):
        rule = "must hold a mapping with run_dir, sources and target"
        raise ConfigErrors([ConfigError("CONFIG", str(path), rule, "See docs/configuration.md.")])
    return _unshared(data)


def _unshared(value: Any) -> Any:
    """A copy in which every use of a YAML alias is its own object, so that an override changes one place only."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unshared(item) for item in value]
    return value


def _yaml(text: str, field: str, value: str, remedy: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        where = ""
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            where = f" (line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1})"
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigErrors([ConfigError(field, value, f"is not YAML: {problem}{where}", remedy)]) from None


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one value in place. List items are named by index, models also by name. Raises ConfigErrors."""
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        remedy = "Write key.path=value, for example stop.rounds=3."
        raise ConfigErrors([ConfigError("override", override, "is not of the form key.path=value", remedy)])
    value = _yaml(text, key, text, "Quote text that holds YAML's special characters.")
    parts = key.split(".")
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
    """The key or index that the first parts stand for in `place`, and the parts left over."""
    if isinstance(place, dict):
        return parts[0], parts[1:]
    if not isinstance(place, list):
        rule = f"there is nothing below this key to set: {'.'.join(parts)}"
        raise ConfigErrors([ConfigError(whole, place, rule, "See docs/configuration.md for the keys.")])
    if parts[0].isdecimal() and int(parts[0]) < len(place):
        return int(parts[0]), parts[1:]
    names = [item.get("name") if isinstance(item, dict) else None for item in place]
    # A name may hold dots, so the longest one that fits is meant.
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in names:
            return names.index(name), parts[length:]
    known = ", ".join([*(str(i) for i in range(len(place))), *(name for name in names if name)]) or "none, it is empty"
    raise ConfigErrors([ConfigError(whole, parts[0], "is not in this list", f"Use one of: {known}.")])


def _resolve_paths(data: dict[str, Any], folder: Path) -> None:
    """Make relative paths absolute, in place. Leaves what has the wrong type to the models."""
    sources = data.get("sources")
    for model in [*(sources if isinstance(sources, list) else []), data.get("target")]:
        if isinstance(model, dict) and model.get("kind", "vllm") == "vllm" and isinstance(model.get("model"), str):
            model["model"] = _model_path(model["model"], folder)
    for section, key in (("tree", "seed"), ("harvest", "prompts")):
        mapping = data.get(section)
        if isinstance(mapping, dict) and isinstance(mapping.get(key), str):
            mapping[key] = _absolute(mapping[key], folder)
    if isinstance(data.get("run_dir"), str) and "://" not in data["run_dir"]:
        # Not beside the file: a run belongs where the user stands.
        data["run_dir"] = _absolute(data["run_dir"], Path.cwd())


def _model_path(model: str, folder: Path) -> str:
    if model.startswith(CACHE_PREFIX):
        return str(default_cache_dir() / CACHE_FORMAT / model.removeprefix(CACHE_PREFIX))
    if model.startswith(("/", "./", "../", "~")) or (folder / model).is_dir():
        return _absolute(model, folder)
    return model


def _absolute(path: str, folder: Path) -> str:
    # Links are not followed, so that messages show the path the user knows.
    return os.path.normpath(folder / Path(path).expanduser())
