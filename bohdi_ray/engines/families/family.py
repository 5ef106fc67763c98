"""The fields of an entry in the table of families, and facts that several families share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a family writes reasoning before its answer."""

    parser: str  # vLLM's reasoning parser
    start: str  # the text a block of reasoning opens with; a template may have written it already
    end: str
    switch: str | None = None  # the chat template's variable that turns reasoning off when false


@dataclass(frozen=True, slots=True)
class Family:
    """One family. A field that is not set is as in a plain decoder with rotary positions (Llama)."""

    name: str
    examples: tuple[str, ...]  # hub ids of models people use
    model_types: tuple[str, ...]  # of config.json, the outermost
    text_tower: str | None = None  # of a wrapper of several modalities: model_type of its language model
    tower_prefix: str = ""  # what a wrapper's checkpoint puts before the names of its language model's tensors
    attention: tuple[str, ...] = ()  # implementations that compute this family right in training, best first; () is any
    thinking: Thinking | None = None
    unproved_on_cpu: str | None = None  # why vLLM's CPU build cannot run it
    refused_as_target: str | None = None  # why it cannot be trained, for docs/models.md
    marks: tuple[str, ...] = ()  # its chat template has one of them, those of the same model_type's others do not
    tiny: tuple[str, ...] = ()  # checkpoints of tests/tiny_families.py that stand for it
    notes: tuple[str, ...] = ()  # what is special about it, for docs/models.md


THINK, END_THINK = "<think>", "</think>"
QWEN_THINKING = Thinking("qwen3", THINK, END_THINK, "enable_thinking")
R1_THINKING = Thinking("deepseek_r1", THINK, END_THINK)
GPT_OSS_THINKING = Thinking("openai_gptoss", "<|channel|>analysis<|message|>", "<|end|>")

# vLLM's classes for these import transformers' image processors, and those torchvision, also for text alone. Every
# torchvision for x86-64 that the package index has for this torch is a CUDA build, which a CPU torch cannot load.
NEEDS_TORCHVISION = "vLLM's class for it imports torchvision, which has no build that fits the CPU lock's torch"
WRAPPER_NOTE = "several modalities: only its language model is asked and trained"
MISTRAL_NOTE = "publishers put Mistral's own files beside: Hugging Face's are read"
PADDED_NOTE = "rows that share a line would mix: in training each has its own"  # as the packing probe finds on a CPU
COLD_NOTE = "on a CPU vLLM leaves such layers out of a reload in place: the target's engines start anew each round"
