"""Tries a model's chat template with the configured system prompt and variables, and with prompts like those of a
harvest.

Part of the preflight. Templates that are refused here would otherwise lead to sources that answer an empty question, or
to a target whose rows are all rejected.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bohdi_ray.config import FusionConfig, VllmModel
from bohdi_ray.engines.chat.answer_mask import mask_fault
from bohdi_ray.engines.chat.hf_tokenizer import only_tekken, tekken_template
from bohdi_ray.engines.chat.prompt_length import TokenCounter
from bohdi_ray.engines.chat.template_trial import FolderTemplate, Trial, render_of, template_of, trial
from bohdi_ray.engines.chat.vocabulary import control_tokens_in
from bohdi_ray.engines.prompts import TemplateSet
from bohdi_ray.errors import ConfigError
from bohdi_ray.preflight.findings import Findings
from bohdi_ray.records import ROLES, Role

# As short as real ones are: where this does not fit, next to nothing does.
QUESTION = "Why does a stone that is thrown upwards come back faster than a feather?"
PATH = ("Physics", "Mechanics", "Free Fall")
ANSWERS = ("Air slows the feather more.", "It is lighter.")
USEFUL_ANSWER = 32  # tokens; with less room every answer loses its end


@dataclass(frozen=True, slots=True)
class _Tried:
    """One trial: the roles that use this style, and the result."""

    roles: tuple[Role, ...]
    kwargs: dict[str, Any]
    found: Trial


def check_templates(
    at: str,
    model: VllmModel,
    folder: Path,
    window: int | None,
    config: FusionConfig,
    prompts: TemplateSet | None,
    findings: Findings,
) -> None:
    """Tries the template of one model in every role that it has. `window`: its max_model_len, if that is known."""
    is_target = model is config.target
    try:
        render = template_for(folder)
    except ConfigError as error:
        findings.refuse(f"{at}.model", model.model, error.rule, error.remedy)
        return
    counter = TokenCounter(folder)
    for tried in _trials(at, model, folder, render, is_target, findings):
        if prompts is None:
            continue
        for role in tried.roles:
            if role == "judge" and not config.judge.names_letter:
                continue
            text = _rendered(render, tried, model, prompts, role)
            if text is not None:
                _check_length(at, model, role, text, window, counter, config, findings)


def template_for(folder: Path) -> FolderTemplate:
    """The template that the folder's tokenizer will use. Raises ConfigError if there is none."""
    made = tekken_template(folder) if only_tekken(folder) and template_of(folder) is None else None
    return made or render_of(folder)


def _trials(
    at: str, model: VllmModel, folder: Path, render: FolderTemplate, is_target: bool, findings: Findings
) -> Iterator[_Tried]:
    by_kwargs: dict[str, list[Role]] = {}
    for role in ("answer",) if is_target else ROLES:
        by_kwargs.setdefault(json.dumps(template_kwargs(model, role), sort_keys=True, default=str), []).append(role)
    for roles in by_kwargs.values():
        kwargs = template_kwargs(model, roles[0])
        try:
            found = trial(
                render,
                model.system_prompt,
                is_target=is_target,
                kwargs=kwargs,
                field=f"{at}.model",
                value=model.model,
            )
        except ConfigError as error:
            findings.problems += [error] if str(error) not in map(str, findings.problems) else []
            continue
        if is_target and (rule := mask_fault(found, render.template, control_tokens_in(folder))) is not None:
            remedy = "Change the template so that the assistant turn begins with what add_generation_prompt adds."
            findings.refuse(f"{at}.model", model.model, rule, remedy)
            continue
        yield _Tried(tuple(roles), kwargs, found)


def template_kwargs(model: VllmModel, role: Role) -> dict[str, Any]:
    """Variables of the chat template in a role."""
    return {**model.chat_template_kwargs, **getattr(model.sampling, role).chat_template_kwargs}


def _rendered(render: FolderTemplate, tried: _Tried, model: VllmModel, prompts: TemplateSet, role: Role) -> str | None:
    """A prompt of this role as the engine would read it; None if the template rejects it."""
    text = {
        "sprout": lambda: prompts.render_sprout(PATH[:1], "sub-domain", leaf=True),
        "question": lambda: prompts.render_question(PATH, "a question"),
        "answer": lambda: prompts.render_answer(QUESTION),
        "judge": lambda: prompts.render_judge(QUESTION, list(ANSWERS)),
    }[role]()
    messages = tried.found.shape.messages(model.system_prompt, text)
    try:
        return render(messages, add_generation_prompt=True, **tried.kwargs)
    except Exception:  # a template is a program of strangers; the trial has told what it does not take
        return None


def _check_length(
    at: str,
    model: VllmModel,
    role: Role,
    text: str,
    window: int | None,
    counter: TokenCounter,
    config: FusionConfig,
    findings: Findings,
) -> None:
    if window is not None and not counter.fits(text, window):
        rule = f"a {role} prompt has {counter.count(text)} tokens, system prompt and chat template included"
        remedy = "Raise it, use a model with a larger window, or shorten system_prompt and harvest.prompts."
        findings.refuse(f"{at}.engine.max_model_len", window, rule, remedy)
    if model is not config.target or role != "answer":
        return
    training = config.training
    shortest = min(config.first_rounds, key=lambda round: training.at(round).max_length)
    longest, field = training.at(shortest).max_length, training.key(shortest, "max_length")
    if not counter.fits(text, longest):
        rule = (
            f"the prompt of a short question has {counter.count(text)} tokens, system prompt and chat template "
            "included, so every row would be rejected"
        )
        remedy = "Raise it (the paper's is 8192), or shorten target.system_prompt."
        findings.refuse(field, longest, rule, remedy)
    elif not counter.fits(text, longest - USEFUL_ANSWER):
        left = longest - (counter.count(text) or 0)
        findings.advice.append(
            f"{field} {longest} leaves {left} tokens for an answer behind a short question; answers lose their ends"
        )
