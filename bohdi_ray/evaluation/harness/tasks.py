"""Loads the tasks of an evaluation: lm-eval's own by name, suites, and folders of YAML and JSON Lines of one's own.

Everything is loaded before an engine starts, the data too, so a task that cannot be run is refused in time. Imports
lm-eval (extra `eval`) inside functions.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bohdi_ray.config.addresses import is_written_as_path
from bohdi_ray.errors import ConfigError, ConfigErrors
from bohdi_ray.evaluation.harness.quiet import quiet
from bohdi_ray.evaluation.harness.suites import SUITES

FIELD = "--tasks"
# What tasks that run code as they are imported say where it is not allowed; they look at this variable.
ALLOWS_CODE = "HF_ALLOW_CODE_EVAL"


@dataclass(frozen=True, slots=True)
class Tasks:
    """lm-eval's tasks with their data, and its TaskManager."""

    manager: Any
    objects: tuple[Any, ...]  # tasks and groups, as they were named
    groups: Mapping[str, Sequence[str]]  # names of single tasks by group, groups in groups included
    single: Mapping[str, Any]  # the tasks by name

    def metrics(self, task: str) -> tuple[str, ...]:
        """Names of a single task's metrics."""
        return tuple(self.single[task].aggregation())


def load_tasks(words: Sequence[str], allow_code: bool = False, field: str = FIELD) -> Tasks:
    """The tasks that these words name: lm-eval's names, suites, and folders. Raises ConfigErrors, one for each word or
    task that cannot be run: unknown, its data not to be had, or one that executes code without `allow_code`. Errors
    name `field`."""
    if allow_code:
        os.environ[ALLOWS_CODE] = "1"
    folders = {word: Path(word).expanduser() for word in words if is_written_as_path(word)}
    own = {word: _own_tasks(folder, field) for word, folder in folders.items()}
    needs_others = len(own) < len(words) or any(part.lacks for part in own.values())
    manager = _manager(list(folders.values()), needs_others)
    wanted: list[str] = []
    errors: list[ConfigError] = []
    for word in words:
        if word in own:
            wanted += own[word].names
            if not own[word].names:
                rule = "holds no task (a YAML file with `task:` in it)"
                errors.append(ConfigError(field, word, rule, "Name a folder with tasks, or a task of lm-eval."))
        elif word in SUITES:
            wanted += SUITES[word]
        elif word in manager.all_tasks:
            wanted.append(word)
        else:
            remedy = f"Suites: {', '.join(SUITES)}. `lm-eval ls tasks` lists the others; a folder begins with ./ or /."
            errors.append(ConfigError(field, word, "is no task of lm-eval, no suite and no folder", remedy))
    if errors:
        raise ConfigErrors(errors)
    objects: list[Any] = []
    single: dict[str, Any] = {}
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(wanted):
        try:
            with quiet(), _seeded():
                part = manager.load([name])
        except Exception as error:  # datasets, fsspec and tasks raise all kinds
            errors.append(_code_error(name, field) if ALLOWS_CODE in str(error) else _loading_error(name, error, field))
            continue
        if twice := sorted(single.keys() & part["tasks"].keys()):
            rule = f"has tasks that are named already ({', '.join(twice[:3])})"
            errors.append(ConfigError(field, name, rule, "Name each task once."))
        single |= part["tasks"]
        groups |= {key: sorted(one.task_name for one in group.get_all_tasks()) for key, group in part["groups"].items()}
        objects += [part["groups"][name]] if name in part["groups"] else list(part["tasks"].values())
    errors += [fault for name, task in single.items() if (fault := _fault(name, task, allow_code, field))]
    if errors:
        raise ConfigErrors(errors)
    return Tasks(manager, tuple(objects), groups, single)


@dataclass(frozen=True, slots=True)
class _OwnTasks:
    """What a folder holds. `names`: groups and tasks, sorted, without those that are part of another group there."""

    names: tuple[str, ...]
    lacks: bool  # a group there has tasks that are not there


def _own_tasks(folder: Path, field: str) -> _OwnTasks:
    if not folder.is_dir():
        raise ConfigError(field, str(folder), "is not there", "Name a folder with YAML files of tasks.")
    from lm_eval.tasks._index import Kind, TaskIndex
    from lm_eval.tasks._yaml_loader import load_yaml

    for file in sorted(folder.rglob("*.yaml")):
        try:
            load_yaml(file, resolve_func=False)
        except (OSError, ValueError, yaml.YAMLError) as error:
            rule = f"cannot be read: {' '.join(str(error).split())[:300]}"
            raise ConfigError(field, str(file), rule, "Mend the file.") from None
    with quiet():
        index = TaskIndex.build([folder])
    members = set()
    for entry in index.values():
        if entry.kind is Kind.GROUP:
            parts = (entry.cfg or {}).get("task") or []
            members |= {part if isinstance(part, str) else part.get("task", part.get("group")) for part in parts}
    kinds = (Kind.TASK, Kind.PY_TASK, Kind.GROUP)
    names = sorted(name for name, entry in index.items() if entry.kind in kinds and name not in members)
    return _OwnTasks(tuple(names), not members <= index.keys())


def _manager(folders: Sequence[Path], needs_others: bool) -> Any:
    """lm-eval's TaskManager, with its own tasks only where they are needed: it reads thousands of files for them."""
    from lm_eval.tasks import TaskManager

    with quiet():
        manager = TaskManager(include_path=list(folders) or None, include_defaults=needs_others)
        for folder in folders:
            for name, entry in list(manager.task_index.items()):
                if entry.yaml_path is not None and entry.yaml_path.is_relative_to(folder):
                    manager.task_index[name] = _with_own_data(entry, folder)
    return manager


def _with_own_data(entry: Any, folder: Path) -> Any:
    """The same entry with its data files found: relative ones are beside the YAML file, in the folder above it, or in
    the folder that was named."""
    from dataclasses import replace

    from lm_eval.tasks._yaml_loader import load_yaml

    settings = load_yaml(entry.yaml_path, resolve_func=True)
    arguments = settings.get("dataset_kwargs")
    files = arguments.get("data_files") if isinstance(arguments, Mapping) else None
    if files is None:
        return entry
    places = (entry.yaml_path.parent, entry.yaml_path.parent.parent, folder)

    def found(file: Any) -> Any:
        if isinstance(file, Mapping):
            return {key: found(value) for key, value in file.items()}
        if isinstance(file, list):
            return [found(value) for value in file]
        if "://" in file or os.path.isabs(file):
            return file
        return next((str(place / file) for place in places if (place / file).exists()), str(places[0] / file))

    settings["dataset_kwargs"] = {**arguments, "data_files": found(files)}
    if isinstance(metadata := settings.get("metadata"), Mapping):
        settings["metadata"] = {**metadata, "from": str(entry.yaml_path)}
    return replace(entry, yaml_path=None, cfg=settings)


def check_generation(tasks: Tasks, subject: str, window: int) -> None:
    """Raises ConfigErrors for tasks whose texts an engine with this window cannot write: too long, or with settings
    that our engines do not have."""
    from bohdi_ray.evaluation.harness.language_model import MAX_GENERATED, normalize_gen_kwargs, unknown_options

    errors = []
    for name, task in tasks.single.items():
        if task.OUTPUT_TYPE != "generate_until":
            continue
        settings = normalize_gen_kwargs(dict(task.config.generation_kwargs or {}), MAX_GENERATED)
        if unknown := unknown_options(settings):
            rule = f"asks for texts with {', '.join(unknown)}, which our engines do not have"
            errors.append(ConfigError(FIELD, name, rule, "Take it out of the task's generation_kwargs."))
        if settings["max_gen_toks"] >= window - 2:
            rule = f"asks for texts of {settings['max_gen_toks']} tokens, and the window of {subject} has {window}"
            remedy = "Raise it with --set engine.max_model_len=N, as far as the model's own window allows."
            errors.append(ConfigError(FIELD, name, rule, remedy))
    if errors:
        raise ConfigErrors(errors)


def _fault(name: str, task: Any, allow_code: bool, field: str) -> ConfigError | None:
    if getattr(task, "UNSAFE_CODE", False) and not allow_code:
        return _code_error(name, field)
    if getattr(task, "MULTIMODAL", False):
        return ConfigError(field, name, "asks about images, and our engines read text", "Leave it out.")
    if not (task.has_test_docs() or task.has_validation_docs()):
        return ConfigError(field, name, "has neither test nor validation questions", "Give it a `test_split`.")
    if not len(task.eval_docs):
        return ConfigError(field, name, "has no questions", "Check its data files and its `test_split`.")
    return None


def _code_error(name: str, field: str) -> ConfigError:
    rule = "runs code that the model writes, on this machine and without a sandbox"
    remedy = "Allow it with `bohdi evaluate --allow-code`, in a container or on a machine of its own."
    return ConfigError(field, name, rule, remedy)


def _loading_error(name: str, error: Exception, field: str) -> ConfigError:
    causes = [error, *([error.__cause__] if error.__cause__ is not None else [])]
    said = "; ".join(" ".join(str(cause).split())[:300].rstrip(".") or type(cause).__name__ for cause in causes)
    remedy = "Check its YAML file and its data, or leave it out."
    if isinstance(error, OSError) or "hub" in str(error).lower():
        remedy = (
            "Its data must be had from the hub (network, and for some tasks an account), from the cache of `datasets`, "
            "or from files beside its YAML file."
        )
    return ConfigError(field, name, f"cannot be loaded: {said}", remedy)


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Some tasks shuffle their choices as they are loaded, by generators that lm-eval seeds so."""
    states = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(1234)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
