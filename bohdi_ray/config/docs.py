"""docs/configuration.md, generated from the configuration models. Called by `make docs`; a test keeps the file true."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bohdi_ray.config import ROLE_DEFAULTS, FusionConfig, OpenAIModel, RoleSampling, Sampling, VllmModel
from bohdi_ray.config.kinds.by_kind import KindTable, kinds_of
from bohdi_ray.config.presets import PRESETS

INTRO = """\
# Configuration

Made by `make docs` from `bohdi_ray/config/fusion_config.py` and its parts; change it there.

A fusion is one YAML file. Start from `jobs/configs/quickstart.yaml` or `jobs/configs/paper.yaml`.

- `bohdi plan CONFIG` shows what a run would do, where everything would be placed and what is missing, and starts
  nothing; `bohdi plan --full` prints the resolved configuration with all defaults.
- **Overrides**: `bohdi fuse CONFIG stop.rounds=3 training.learning_rate=1e-5`. Values are YAML (`null` unsets,
  `[6, 4]` is a list). Items of a list are named by index, models also by name: `sources.0.temperature=0.5`,
  `sources.tutor.engine.max_model_len=1024`.
- **A preset** (`preset: paper`, or as an override `preset=paper`) fills in what the file leaves out; its values are
  listed at the end of this page. `bohdi plan` says which settings differ from it, and a run's `config.yaml` holds them
  all.
- **Resuming**: `bohdi resume RUN stop.rounds=30` takes overrides too, but only of settings on which neither samples
  nor weights depend: where to run, how long, and how much to keep. `bohdi_ray/config/changes.py` lists them; others
  are refused by name.
- **Sections of several kinds** (`judge`, `bandit`, `questions`, `training.objective`): `kind` says which one; each has
  its own settings and defaults, and a setting that it does not have is refused with the kinds that have it.
- **Unknown keys are refused**, with the nearest known one; all mistakes are reported at once, each with field, value,
  rule and remedy.
- **Paths**: a relative path in the file is relative to the file's folder; one in an override is relative to the
  working directory, and so is `run_dir`. A `model` is a folder when it begins with `/`, `./`, `../` or `~` or exists
  as one; `cache:NAME` is a model that `bohdi prepare-quickstart` made; anything else is a hub id.
- **Secrets** are references, `env:NAME` or `file:PATH`. A key written into the file is refused and not repeated.
- **Exit codes**: 0 done, or a finished run has nothing left to do; 1 the run failed, and can be continued with `bohdi
  resume` once the cause is fixed (a component that died, a full disk, nothing learned); 2 the input or the run
  directory was refused; 130 stopped, committed work is safe.
"""


def render() -> str:
    """The whole page."""
    blocks = [INTRO]
    for title, model, rows in _pages():
        blocks.append(f"## {title}\n\n{_words(model)}\n")
        blocks.append("\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows]) + "\n")
    blocks += [_role_defaults(), *_presets()]
    return "\n".join(blocks)


def _pages() -> Iterator[tuple[str, type[BaseModel], Iterator[str]]]:
    """Every section once: title, model, and its rows."""
    yield "The whole configuration", FusionConfig, _rows(FusionConfig, "")
    yield "A model of `kind: vllm` (`sources.N`, `target`)", VllmModel, _rows(VllmModel, "")
    yield "A source of `kind: openai` (`sources.N`)", OpenAIModel, _rows(OpenAIModel, "")
    for name, field in FusionConfig.model_fields.items():
        section, kinds = _section(field.annotation), kinds_of(field)
        if section is not None and section is not VllmModel:
            yield f"`{name}`", section, _rows_by_kind(kinds, f"{name}.") if kinds else _rows(section, f"{name}.")


def _rows_by_kind(kinds: KindTable, prefix: str) -> Iterator[str]:
    """The kinds, then every setting with the kinds that have it."""
    default, owners = next(iter(kinds)), dict[tuple[str, str, str, str], list[str]]()
    for kind, section in kinds.items():
        yield f"| `{prefix}kind: {kind}` | kind | {'the default' if kind == default else ''} | {_words(section)} |"
        for name, field in section.model_fields.items():
            if name != "kind":
                owners.setdefault((name, _type(field), _default(field), _text(field)), []).append(kind)
    for (name, type_name, shown, text), some in owners.items():
        whose = "" if len(some) == len(kinds) else f"{', '.join(f'`{kind}`' for kind in some)}: "
        yield f"| `{prefix}{name}` | {type_name} | {shown} | {whose}{text} |"


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        inside = section is not None and not field.is_required()
        if inside and model is not FusionConfig:
            # A part of a section is shown in place, under its dotted name.
            assert section is not None
            yield f"| `{prefix}{name}` | section |  | {_text(field)} |"
            if (kinds := kinds_of(field)) is not None:
                yield from _rows_by_kind(kinds, f"{prefix}{name}.")
            elif section is Sampling:
                yield from _rows(RoleSampling, f"{prefix}{name}.ROLE.")
            else:
                yield from _rows(section, f"{prefix}{name}.")
        else:
            yield f"| `{prefix}{name}` | {_type(field)} | {_default(field)} | {_text(field)} |"


def _section(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _words(model: type[BaseModel]) -> str:
    return re.sub(r"\s+", " ", model.__doc__ or "")


def _text(field: FieldInfo) -> str:
    return re.sub(r"\s+", " ", field.description or "").replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if _section(field.annotation) is not None:
        return ""
    value = field.get_default()
    if isinstance(value, tuple) and len(str(value)) > 60:
        return "; ".join(str(item) for item in value)
    return "none" if value is None else f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _type(field: FieldInfo) -> str:
    limits = [limit for item in field.metadata if (limit := _limit(item))]
    return _type_name(field.annotation) + (f", {' and '.join(limits)}" if limits else "")


def _limit(item: Any) -> str | None:
    if isinstance(item, annotated_types.Ge):
        return f">= {item.ge}"
    if isinstance(item, annotated_types.Gt):
        return f"> {item.gt}"
    if isinstance(item, annotated_types.Le):
        return f"<= {item.le}"
    return f"< {item.lt}" if isinstance(item, annotated_types.Lt) else None


NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}


def _type_name(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(inner[0])
    if origin is Literal:
        return " or ".join(f"`{_plain(value)}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type_name(part) for part in inner if part is not type(None)))
    if origin is tuple:
        return f"list of {_type_name(inner[0])}"
    if origin is dict:
        return "mapping"
    return "section" if _section(annotation) is not None else NAMES[annotation]


def _role_defaults() -> str:
    lines = [
        "## Sampling where a model sets none",
        "",
        "| role | temperature | top_p | max_tokens |",
        "|---|---|---|---|",
    ]
    for role, sampling in ROLE_DEFAULTS.items():
        temperature = "0" if role == "judge" else "the model's own"
        lines.append(f"| {role} | {temperature} | {sampling.top_p} | {sampling.max_tokens} |")
    return "\n".join(lines) + "\n"


def _presets() -> Iterator[str]:
    for name, preset in PRESETS.items():
        parts = [
            ("The configuration", preset.settings),
            ("Every source", preset.source),
            ("The target", preset.target),
        ]
        text = "".join(f"# {part}\n{yaml.safe_dump(dict(values), sort_keys=False)}" for part, values in parts)
        for model, temperature in preset.temperatures.items():
            text += f"# A source whose model's name, after the last slash, contains `{model}`\n"
            text += f"temperature: {temperature}\n"
        yield f"## What `preset: {name}` sets\n\n```yaml\n{text}```\n"


def main(arguments: list[str]) -> None:
    """Write the page to the path given."""
    Path(arguments[0]).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
