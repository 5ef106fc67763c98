"""The chat template of a model's folder, found and rendered as transformers does, without importing transformers.

Called by `bohdi plan` and wherever a template must be tried before a tokenizer is loaded. Pure functions over files;
imports jinja2 and nothing heavier.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bohdi_ray.errors import ConfigError

LEGACY_TEMPLATE = "chat_template.json"  # of processors; transformers' tokenizers do not read it
TEMPLATE = "chat_template.jinja"
MORE_TEMPLATES = "additional_chat_templates"
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class FolderTemplate:
    """Renders conversations with the chat template of one folder. Compiled at the first use."""

    def __init__(self, template: str, tokens: Mapping[str, str]):
        self.template, self.tokens = template, dict(tokens)

    @cached_property
    def _compiled(self) -> jinja2.Template:
        return _environment().from_string(self.template)

    def __call__(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool, **kwargs: Any) -> str:
        """The rendered text. Raises whatever the template raises, mostly jinja2's TemplateError."""
        variables = {**self.tokens, "tools": None, "documents": None, **kwargs}
        return self._compiled.render(messages=messages, add_generation_prompt=add_generation_prompt, **variables)


def render_of(folder: Path | str) -> FolderTemplate:
    """A function that renders with a folder's default template. Raises ConfigError if there is none or it cannot be
    read."""
    template = template_of(folder)
    if template is None:
        raise ConfigError(
            "model",
            str(folder),
            "the folder has no chat template, so the format of its prompts is not known",
            f"Use the instruction-tuned variant of the model, or add its {TEMPLATE} to the folder.",
        )
    return FolderTemplate(template, named_tokens(folder))


def template_of(folder: Path | str) -> str | None:
    """The template that a tokenizer loaded from the folder has, else that of its processor; None if neither has one.

    A file of its own comes before tokenizer_config.json, as in transformers. Raises ConfigError for files that cannot
    be read and for several named templates without a default one.
    """
    folder = Path(folder)
    named: dict[str, str] = {}
    if (folder / TEMPLATE).is_file():
        named["default"] = _text(folder / TEMPLATE)
    named |= {path.stem: _text(path) for path in sorted((folder / MORE_TEMPLATES).glob("*.jinja"))}
    if not named:
        named = _named(_mapping(folder / "tokenizer_config.json").get("chat_template"))
    if not named:
        named = _named(_mapping(folder / LEGACY_TEMPLATE).get("chat_template"))
    if named and "default" not in named:
        rule = f"the folder has several chat templates ({', '.join(sorted(named))}) and none of them is the default"
        raise ConfigError("model", str(folder), rule, f"Write the one to be used into {TEMPLATE}.")
    return named.get("default")


def _named(written: Any) -> dict[str, str]:
    """Templates by name, from a text, a list of names with templates, or a mapping."""
    if isinstance(written, str):
        return {"default": written} if written else {}
    if isinstance(written, list):
        entries = [entry for entry in written if isinstance(entry, dict)]
        return {str(entry.get("name")): str(entry.get("template")) for entry in entries}
    if isinstance(written, dict):
        return {str(name): str(template) for name, template in written.items()}
    return {}


def named_tokens(folder: Path | str) -> dict[str, str]:
    """The special tokens that a template may refer to by name (`bos_token`, ...), read from the folder's files."""
    folder = Path(folder)
    tokens: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        content = _mapping(folder / file)
        extra = content.get("extra_special_tokens")
        for name, value in {**content, **(extra if isinstance(extra, dict) else {})}.items():
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str) and (name in NAMED_TOKENS or name.endswith("_token")):
                tokens[name] = text
    return tokens


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "model", str(path.parent), f"{path.name} cannot be read ({error})", "Correct the file."
        ) from error


def _mapping(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file; empty if there is no such file or it holds something else."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(_text(path))
    except ValueError as error:
        raise ConfigError(
            "model", str(path.parent), f"{path.name} is not JSON ({error})", "Correct the file."
        ) from error
    return content if isinstance(content, dict) else {}


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks text that the model wrote; it does not change the rendered text."""

    tags: set[str] = {"generation"}  # noqa: RUF012 (declared so by jinja2)

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def _environment() -> ImmutableSandboxedEnvironment:
    """The Jinja environment with the names and filters that templates expect."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
):
    # jinja2's own filter escapes what HTML would read.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)
