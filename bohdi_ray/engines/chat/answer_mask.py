"""Checks that the answer in a rendered conversation can be separated from its prompt, as a target's chat template must
allow.

Called by the preflight with the result of one trial of the template. Pure. Uses the same rules as
training/batches/encoding.py, which works on the loaded tokenizer: a template that passes here gives rows there.
"""

from __future__ import annotations

from collections.abc import Iterable

from bohdi_ray.engines.chat.style import way_in
from bohdi_ray.engines.chat.template_trial import Trial


def knows_reasoning(template: str, control_tokens: Iterable[str] = ()) -> bool:
    """Whether a model writes reasoning, judged by its template or its control tokens. Rows of such a target are built
    from prompt and answer, as its engine does, because its template renders past turns differently from the next
    one."""
    return way_in(template, control_tokens) is not None


def mask_fault(found: Trial, template: str, control_tokens: Iterable[str] = ()) -> str | None:
    """Why no row of this target could be learned from, as a rule for people; None if there is no fault."""
    if found.is_stable or knows_reasoning(template, control_tokens):
        return None
    return (
        "its chat template is not prefix-stable: the prompt with the generation prompt is not the beginning of the "
        "conversation with the answer, so answer tokens cannot be separated from prompt tokens"
    )
