"""Whether the answer in a rendered conversation can be told from its prompt: what a target's template must allow.

Called by the preflight with what one trial of the template gave. Pure. By the same rules as
training/batches/encoding.py, which goes by the loaded tokenizer: what passes here makes rows there.
"""

from __future__ import annotations

from collections.abc import Iterable

from bohdi_ray.engines.chat.style import way_in
from bohdi_ray.engines.chat.template_trial import Trial


def knows_reasoning(template: str, control_tokens: Iterable[str] = ()) -> bool:
    """Whether a model writes reasoning, by its template or its control tokens. Rows of such a target are put together
    from the prompt and the answer, as its engine does it, because past turns are written otherwise than the next one
    is asked for."""
    return way_in(template, control_tokens) is not None


def mask_fault(found: Trial, template: str, control_tokens: Iterable[str] = ()) -> str | None:
    """Why no row of this target could be learned from, as a rule for people; None if all is well."""
    if found.is_stable or knows_reasoning(template, control_tokens):
        return None
    return (
        "its chat template is not prefix-stable: the prompt with the generation prompt is not the beginning of the "
        "conversation with the answer, so answer tokens cannot be told from prompt tokens"
    )
