"""The table of model families: what is special about each, and what was tried with it.

Read by engines (arguments, reasoning), by training (attention, the text tower of a wrapper), by `bohdi plan` and by the
generated docs/models.md. Holds facts only, keyed by config.json's `model_type`; whatever can be tried on the model itself
(system role, content as parts, answer mask, packing) is tried and not looked up here. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a family writes reasoning before its answer."""

    parser: str  # vLLM's reasoning parser
    start: str  # the text a block of reasoning opens with; a template may have written it already
    end: str
    switch: str | None = None  # the chat template's variable that turns reasoning off when false


@dataclass(frozen=True, slots=True)
class Family:
    """One family. Whatever is not named is as in a plain decoder with rotary positions (Llama)."""

    name: str
    examples: tuple[str, ...]  # hub ids of models people use
    model_types: tuple[str, ...]  # of config.json, the outermost
    text_tower: str | None = None  # of a wrapper of several modalities: model_type of its language model
    tower_prefix: str = ""  # what a wrapper's checkpoint puts before the names of its language model's tensors
    attention: tuple[str, ...] = ()  # implementations that compute this family right in training, best first; () is any
    thinking: Thinking | None = None
    unproved_on_cpu: str | None = None  # why vLLM's CPU build cannot run it


QWEN_THINKING = Thinking("qwen3", "<think>", "</think>", "enable_thinking")

FAMILIES: tuple[Family, ...] = (
    Family("Llama 3.x", ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.2-3B-Instruct"), ("llama",)),
    Family("Mistral", ("mistralai/Mistral-7B-Instruct-v0.3", "mistralai/Mistral-Small-24B-Instruct-2501"), ("mistral",)),
    Family("Qwen 2.5", ("Qwen/Qwen2.5-14B-Instruct",), ("qwen2",)),
    Family("Qwen 3", ("Qwen/Qwen3-8B",), ("qwen3",), thinking=QWEN_THINKING),
    # Soft-capped attention logits: sdpa leaves the cap out.
    Family("Gemma 2", ("google/gemma-2-9b-it",), ("gemma2",), attention=("eager", "flash_attention_2")),
)


def family_of(config: Mapping[str, Any]) -> Family | None:
    """The family of a model by its config.json; None for one that is not in the table."""
    model_type = config.get("model_type")
    return next((family for family in FAMILIES if model_type in family.model_types), None)
