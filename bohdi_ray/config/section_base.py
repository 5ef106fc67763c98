"""The base class of all sections of the configuration, and rules that several sections share."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
SELECTED = re.compile(rf"!?{LABEL.pattern}|!?in\( *{LABEL.pattern}(?: *, *{LABEL.pattern})* *\)")
SWITCHES = ("enable_thinking", "thinking")  # what chat templates call the variable that turns reasoning on or off
# What we say ourselves when a chat template is rendered, and what would change what a prompt is.
NOT_VARIABLES = frozenset(
    (
        *("conversation", "messages", "tools", "documents", "chat_template", "add_generation_prompt", "self"),
        *("continue_final_message", "tokenize", "tokenizer_kwargs", "processor_kwargs", "padding", "truncation"),
        *("max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"),
        *("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"),
    )
)


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )


def _label_selector(selector: dict[str, str]) -> dict[str, str]:
    """Returns the selector if Ray accepts it. Raises ValueError."""
    for key, value in selector.items():
        if not all(LABEL.fullmatch(part) for part in key.split("/")) or key.count("/") > 1:
            raise ValueError(f"{key!r} is not a valid label name")
        if not SELECTED.fullmatch(value):
            raise ValueError(f"{key}: {value!r} is not a valid selector; write a value, !value, in(a,b) or !in(a,b)")
    return selector


LabelSelector = Annotated[dict[str, str], AfterValidator(_label_selector)]
"""Ray labels, as Ray would take them."""


def _template_variables(value: dict[str, Any]) -> dict[str, Any]:
    """Returns the variables if a chat template may be given them. Raises ValueError."""
    for name in value:
        if not name.isidentifier():
            raise ValueError(f"{name!r} is not a valid variable name; write {{enable_thinking: false}}, for example")
        if name in NOT_VARIABLES:
            raise ValueError(f"{name} cannot be set in a configuration: every request sets it itself; remove it")
    return value


TemplateVariables = Annotated[dict[str, Any], AfterValidator(_template_variables)]
"""Variables for a chat template."""
