"""How one model is asked in one role: the variables of its template, whether it thinks, and where its answer begins.

Derived from the tokenizer alone, so that an engine and training/batches/encoding.py, which see the same tokenizer,
cannot differ. The template is tried out: whether a variable turns reasoning off, and whether the prompt ends inside a
block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bohdi_ray.config import ROLE_DEFAULTS, RoleSampling, VllmModel
from bohdi_ray.config.section_base import SWITCHES
from bohdi_ray.engines.chat.reasoning import DIALECTS, HARMONY, HARMONY_FINAL, HARMONY_REPLY, is_harmony
from bohdi_ray.engines.chat.rendering import chat_shape, render_chat, special_tokens_of
from bohdi_ray.engines.families import FAMILIES, Thinking
from bohdi_ray.engines.families.config_file import mapping_in
from bohdi_ray.errors import ConfigError
from bohdi_ray.records import ROLES, Role

# Room for reasoning where a model thinks by default and nothing is said. Names and labels are asked for without.
DEFAULT_ROOM: dict[Role, int] = {"sprout": 0, "question": 2048, "answer": 8192, "judge": 0}
_MARK = "Bohdi-5c1e"
_COMPACT = ("[THINK]", "<|START_THINKING|>", "<|channel>thought")  # written without line ends around what is inside


@dataclass(frozen=True, slots=True)
class Habit:
    """How a model reasons, as far as its tokenizer shows it."""

    thinking: Thinking | None = None  # how it is written; None: nothing in the template speaks of it
    switch: str | None = None  # the template's variable that turns it off, tried
    by_default: bool = False  # whether the model thinks when nothing is said


@dataclass(frozen=True, slots=True)
class ChatStyle:
    """One way to ask a model."""

    template_kwargs: Mapping[str, Any]
    thinking: Thinking | None
    opened: bool = False  # the prompt ends inside a block of reasoning, `suffix` included
    suffix: str = ""  # what is written behind the rendered prompt so that the answer itself begins
    shows_control_tokens: bool = False  # reasoning is marked by control tokens, which a decoder must not skip


def opening(way: Thinking) -> str:
    """The start of a reasoning block, as models write it."""
    return way.start + ("" if is_harmony(way) or way.start in _COMPACT[:2] else "\n")


def closing(way: Thinking) -> str:
    """The end of a reasoning block and everything up to the start of the answer."""
    if is_harmony(way):
        return HARMONY.end + HARMONY_REPLY + HARMONY_FINAL
    return way.end if way.start in _COMPACT else f"\n{way.end}\n\n"


def exchange(way: Thinking, reasoning: str, opened: bool) -> str:
    """A complete block with `reasoning` in it, up to the start of the answer; without the opening tag if the prompt
    already has it."""
    if is_harmony(way) and not reasoning and not opened:
        return HARMONY_FINAL
    return ("" if opened else opening(way)) + reasoning.strip() + closing(way)


def template_text(tokenizer: Any) -> str:
    """A tokenizer's chat template; all of them, joined, if it has several."""
    template = getattr(tokenizer, "chat_template", None) or ""
    return "\n".join(map(str, template.values())) if isinstance(template, Mapping) else str(template)


def way_in(template: str, control_tokens: Iterable[str] = ()) -> Thinking | None:
    """The tag style in which a chat template or a vocabulary says that reasoning is written; None if neither mentions
    it."""
    if "<|channel|>" in template and "<|message|>" in template:
        return HARMONY
    of_families = (family.thinking for family in FAMILIES if family.thinking and not is_harmony(family.thinking))
    ways = (*of_families, *DIALECTS)
    named = next((way for way in ways if way.start in template or way.end in template), None)
    if named is None and re.search(rf"\b{SWITCHES[0]}\b", template):
        return DIALECTS[0]
    return named or next((way for way in ways if way.end in control_tokens), None)


def habit_of(tokenizer: Any) -> Habit:
    """The habit of this model; renders its template a few times if the template mentions reasoning."""
    template, control_tokens = template_text(tokenizer), special_tokens_of(tokenizer)
    way = way_in(template, control_tokens)
    if way is None:
        return Habit()
    names = dict.fromkeys(name for name in (way.switch, *SWITCHES) if name and re.search(rf"\b{name}\b", template))
    for name in names:
        on, off = (_rendered(tokenizer, {name: value}) for value in (True, False))
        if on is not None and off is not None and on != off:
            return Habit(way, name, by_default=_rendered(tokenizer, {}) == on)
    return Habit(way, None, by_default=way_in(template) is not None)


class ChatStyles:
    """How one model is asked, by role. With `thinks` false it is never asked to think.

    Raises ConfigError if `chat_template_kwargs` names a variable that the template does not have.
    """

    def __init__(self, name: str, tokenizer: Any, sampling: Mapping[Role, RoleSampling], thinks: bool = True):
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._thinks = thinks
        for role in ROLES:
            check_template_kwargs(
                f"chat_template_kwargs of model {name}", sampling[role].chat_template_kwargs, template_text(tokenizer)
            )
        self.habit = habit_of(tokenizer)
        self._control_tokens = special_tokens_of(tokenizer)
        self._styles: dict[tuple[Role, bool], ChatStyle] = {}

    def room(self, role: Role, asked: int = 0) -> int:
        """Number of tokens for reasoning in this role: as requested, else as configured, else the default for a model
        that thinks."""
        if not self._thinks:
            return 0
        sampling, habit = self._sampling[role], self.habit
        switched = sampling.chat_template_kwargs.get(habit.switch) if habit.switch else None
        if switched is not None and not switched:
            return 0
        if asked or sampling.reasoning_max_tokens is not None:
            return asked or sampling.reasoning_max_tokens or 0
        return DEFAULT_ROOM[role] if habit.by_default or switched else 0

    def style(self, role: Role, thinks: bool) -> ChatStyle:
        """The style in which the model is asked in this role, with or without thinking."""
        if (role, thinks) not in self._styles:
            self._styles[role, thinks] = self._style(dict(self._sampling[role].chat_template_kwargs), thinks)
        return self._styles[role, thinks]

    def _style(self, kwargs: dict[str, Any], thinks: bool) -> ChatStyle:
        way, switch = self.habit.thinking, self.habit.switch
        if way is None:
            return ChatStyle(kwargs, None)
        if switch:
            kwargs = {**kwargs, switch: thinks}
        tail = (_rendered(self._tokenizer, kwargs) or "").rpartition(_MARK)[2]
        end = HARMONY_FINAL if is_harmony(way) else way.end
        opened, closed = tail.rfind(way.start) > tail.rfind(end), end in tail
        suffix = ""
        if not thinks and opened:
            suffix = ("\n" if tail.endswith(way.start) and opening(way).endswith("\n") else "") + closing(way)
        elif not thinks and not closed and switch is None and self.habit.by_default:
            suffix = exchange(way, "", opened=False)
        shows = is_harmony(way) or not {way.start, way.end}.isdisjoint(self._control_tokens)
        return ChatStyle(kwargs, way, opened and not suffix, suffix, shows)


def plain_styles(name: str, tokenizer: Any, template_kwargs: Mapping[str, Any] | None = None) -> ChatStyles:
    """Styles of a model of which only the template variables are known; the same in every role."""
    sampling = {
        role: default.model_copy(update={"chat_template_kwargs": dict(template_kwargs or {})})
        for role, default in ROLE_DEFAULTS.items()
    }
    return ChatStyles(name, tokenizer, sampling)


def check_template_kwargs(where: str, template_kwargs: Mapping[str, Any], template: str) -> None:
    """Raises ConfigError for a variable that the template does not read: it would have no effect."""
    for name in template_kwargs:
        if not re.search(rf"\b{re.escape(name)}\b", template):
            known = [switch for switch in (*SWITCHES, "reasoning_effort") if re.search(rf"\b{switch}\b", template)]
            remedy = (
                f"Use {' or '.join(known)}, or remove it." if known else "Remove it; the template has no such variable."
            )
            raise ConfigError(where, name, "the model's chat template does not read it", remedy)


def template_errors(at: str, model: VllmModel, folder: Path, teaches_reasoning: bool) -> list[ConfigError]:
    """Settings of the configuration that the chat template in a model's folder does not support."""
    template, errors = template_in(folder), []
    if not template:
        return []
    sections = {f"{at}.chat_template_kwargs": model.chat_template_kwargs}
    sections |= {
        f"{at}.sampling.{r}.chat_template_kwargs": getattr(model.sampling, r).chat_template_kwargs for r in ROLES
    }
    for where, variables in sections.items():
        try:
            check_template_kwargs(where, variables, template)
        except ConfigError as error:
            errors.append(error)
    if teaches_reasoning and way_in(template) is None:
        rule = f"the chat template of {model.name} does not mention reasoning"
        errors.append(ConfigError("training.reasoning", "keep", rule, "Set it to off, or use a target that thinks."))
    return errors


def template_in(folder: Path) -> str:
    """The chat template in a model's folder; all of them, joined, if it has several; empty if none can be read."""
    files = (*folder.glob("*.jinja"), *folder.glob("additional_chat_templates/*.jinja"))
    found = [path.read_text("utf-8", "replace") for path in sorted(files)]
    for name in ("chat_template.json", "tokenizer_config.json"):
        given = mapping_in(folder / name).get("chat_template")
        entries = given if isinstance(given, list) else [given]
        found += [str(entry.get("template", "")) if isinstance(entry, dict) else str(entry or "") for entry in entries]
    return "\n".join(filter(None, found))


def _rendered(tokenizer: Any, template_kwargs: Mapping[str, Any]) -> str | None:
    """A prompt, or None if the template rejects these variables."""
    try:
        shape = chat_shape(tokenizer, template_kwargs)
        return render_chat(tokenizer, shape.least_system, _MARK, shape, template_kwargs)
    except Exception:  # a template may raise anything
        return None
