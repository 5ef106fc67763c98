"""The table of model families: what is special about each, and what was tried with it.

Read by engines (arguments, reasoning), by training (attention, the text tower of a wrapper), by `bohdi plan` and by the
generated docs/models.md. Holds facts only, keyed by config.json's `model_type`; whatever can be tried on the model
itself (system role, content as parts, answer mask, packing) is tried and not looked up here. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bohdi_ray.engines.families.family import Family, Thinking

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

FAMILIES: tuple[Family, ...] = (
    Family(
        "Llama 3",
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.2-3B-Instruct", "meta-llama/Llama-3.3-70B-Instruct"),
        ("llama",),
        tiny=("llama-3.1", "llama-3.2"),
        notes=("rotary positions scaled (llama3)", "the template writes a date into every system turn"),
    ),
    Family(
        "SmolLM 2",
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-1.7B-Instruct"),
        ("llama",),
        marks=("named SmolLM",),
        tiny=("smollm2",),
        notes=("embeddings are tied",),
    ),
    Family(
        "DeepSeek R1 distills",
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B"),
        ("llama", "qwen2"),
        thinking=R1_THINKING,
        marks=("<｜Assistant｜>",),
        tiny=("r1-distill-llama", "r1-distill-qwen"),
        notes=(
            "the prompt opens the thinking, a conversation leaves it out",
            "names a tokenizer class that loses spaces: tokenizer.json is taken as it is",
        ),
    ),
    Family(
        "Mistral",
        (
            "mistralai/Mistral-7B-Instruct-v0.3",
            "mistralai/Mistral-Nemo-Instruct-2407",
            "mistralai/Mistral-Small-24B-Instruct-2501",
        ),
        ("mistral",),
        tiny=("mistral-7b-v0.3", "mistral-nemo", "mistral-small-2501"),
        notes=(
            MISTRAL_NOTE,
            "7B v0.3 and Nemo write the system prompt into the last user turn and drop it once an answer follows: "
            "it opens the user turn instead",
        ),
    ),
    Family(
        "Mistral Small 3.1, 3.2",
        ("mistralai/Mistral-Small-3.1-24B-Instruct-2503", "mistralai/Mistral-Small-3.2-24B-Instruct-2506"),
        ("mistral3",),
        text_tower="mistral",
        tower_prefix="language_model.",
        unproved_on_cpu=NEEDS_TORCHVISION,
        tiny=("mistral-small-3.1",),
        notes=(WRAPPER_NOTE, MISTRAL_NOTE, "the template is in chat_template.json; a tekken.json alone is converted"),
    ),
    Family(
        "Pixtral, LLaVA",
        ("mistral-community/pixtral-12b", "llava-hf/llava-1.5-7b-hf"),
        ("llava",),
        text_tower="llama",
        tower_prefix="language_model.",
        unproved_on_cpu=NEEDS_TORCHVISION,
        notes=(WRAPPER_NOTE,),
    ),
    Family("Mixtral", ("mistralai/Mixtral-8x7B-Instruct-v0.1",), ("mixtral",), notes=(MISTRAL_NOTE,)),
    Family(
        "Qwen 2.5",
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-14B-Instruct"),
        ("qwen2",),
        tiny=("qwen2.5",),
        notes=("the template writes a system turn of its own",),
    ),
    Family("QwQ", ("Qwen/QwQ-32B",), ("qwen2",), thinking=R1_THINKING, marks=(THINK,)),
    Family(
        "Qwen 3",
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-0.6B"),
        ("qwen3", "qwen3_moe"),
        thinking=QWEN_THINKING,
        marks=("enable_thinking",),
        tiny=("qwen3",),
        notes=("thinks unless enable_thinking is false",),
    ),
    Family(
        "Qwen 3 Thinking",
        ("Qwen/Qwen3-4B-Thinking-2507",),
        ("qwen3", "qwen3_moe"),
        thinking=Thinking("qwen3", THINK, END_THINK),
        marks=(THINK,),
        notes=("the prompt opens the thinking",),
    ),
    Family("Qwen 3 Instruct", ("Qwen/Qwen3-4B-Instruct-2507",), ("qwen3", "qwen3_moe")),
    Family(
        "Qwen 3.5",
        ("Qwen/Qwen3.5-4B", "Qwen/Qwen3.5-27B"),
        ("qwen3_5", "qwen3_5_moe"),
        text_tower="qwen3_5_text",
        tower_prefix="model.language_model.",
        thinking=QWEN_THINKING,
        unproved_on_cpu=NEEDS_TORCHVISION,
        tiny=("qwen3.5",),
        notes=(WRAPPER_NOTE, "most layers have linear attention", PADDED_NOTE, "the prompt opens the thinking"),
    ),
    Family(
        "Qwen 3.5, text alone",
        (),
        ("qwen3_5_text", "qwen3_5_moe_text"),
        thinking=QWEN_THINKING,
        unproved_on_cpu=NEEDS_TORCHVISION,
        notes=("what a published language model of Qwen 3.5 is",),
    ),
    Family(
        "Qwen 2.5 VL",
        ("Qwen/Qwen2.5-VL-7B-Instruct",),
        ("qwen2_5_vl", "qwen2_vl"),
        text_tower="qwen2",
        unproved_on_cpu=NEEDS_TORCHVISION,
        tiny=("qwen2.5-vl",),
        notes=(WRAPPER_NOTE, "the template is in chat_template.json"),
    ),
    Family(
        "Qwen 3 VL",
        ("Qwen/Qwen3-VL-8B-Instruct",),
        ("qwen3_vl",),
        text_tower="qwen3",
        tower_prefix="model.language_model.",
        unproved_on_cpu=NEEDS_TORCHVISION,
        notes=(WRAPPER_NOTE,),
    ),
    Family(
        "Gemma 2",
        ("google/gemma-2-2b-it", "google/gemma-2-9b-it"),
        ("gemma2",),
        # Soft-capped attention logits: sdpa leaves the cap out.
        attention=("eager", "flex_attention", "flash_attention_2"),
        tiny=("gemma-2",),
        notes=("attention logits are capped", "no system role: its prompt opens the user turn"),
    ),
    Family(
        "Gemma 3, text alone",
        ("google/gemma-3-270m-it", "google/gemma-3-1b-it"),
        ("gemma3_text",),
        tiny=("gemma-3-text",),
        notes=("the template writes the system prompt into the user turn",),
    ),
    Family(
        "Gemma 3",
        ("google/gemma-3-4b-it", "google/gemma-3-12b-it"),
        ("gemma3",),
        text_tower="gemma3_text",
        tower_prefix="language_model.",
        unproved_on_cpu=NEEDS_TORCHVISION,
        tiny=("gemma-3",),
        notes=(WRAPPER_NOTE,),
    ),
    Family(
        "Gemma 4",
        ("google/gemma-4-e2b-it", "google/gemma-4-26B-A4B-it"),
        ("gemma4",),
        text_tower="gemma4_text",
        tower_prefix="model.language_model.",
        thinking=Thinking("gemma4", "<|channel>thought", "<channel|>", "enable_thinking"),
        unproved_on_cpu=NEEDS_TORCHVISION,
        tiny=("gemma-4",),
        notes=(WRAPPER_NOTE,),
    ),
    Family(
        "Phi 3",
        ("microsoft/Phi-3.5-mini-instruct", "microsoft/Phi-4-mini-instruct"),
        ("phi3",),
        tiny=("phi-3",),
        notes=(
            "query, key and value are one tensor",
            "a conversation ends in a second end token, which is not learned",
        ),
    ),
    Family("Phi 4", ("microsoft/phi-4",), ("phi3",), marks=("<|im_sep|>",), tiny=("phi-4",)),
    Family(
        "gpt-oss",
        ("openai/gpt-oss-20b", "openai/gpt-oss-120b"),
        ("gpt_oss",),
        attention=("eager", "flex_attention"),  # attention sinks
        thinking=GPT_OSS_THINKING,
        tiny=("gpt-oss", "gpt-oss-mxfp4"),
        notes=(
            "experts",
            PADDED_NOTE,
            COLD_NOTE,
            "published in MXFP4, which vLLM's CPU build cannot run: a source needs a GPU, a target becomes bfloat16",
            "channels: analysis is reasoning, final is the answer",
        ),
    ),
    Family(
        "Granite 3",
        ("ibm-granite/granite-3.1-8b-instruct", "ibm-granite/granite-3.3-8b-instruct"),
        ("granite",),
        thinking=Thinking("granite", "Here is my thought process:", "Here is my response:", "thinking"),
        tiny=("granite-3",),
        notes=("multipliers of embeddings, residuals, attention and logits", "thinks only when asked to"),
    ),
    Family(
        "Granite 4",
        ("ibm-granite/granite-4.0-micro", "ibm-granite/granite-4.0-h-tiny"),
        ("granitemoehybrid",),
        tiny=("granite-4-dense", "granite-4-hybrid"),
        notes=("the h models have Mamba layers, most of them experts", PADDED_NOTE, COLD_NOTE),
    ),
    Family(
        "OLMo 2",
        ("allenai/OLMo-2-1124-7B-Instruct",),
        ("olmo2",),
        tiny=("olmo-2",),
        notes=("vLLM runs transformers' own class",),
    ),
    Family(
        "OLMo 3",
        ("allenai/Olmo-3-7B-Instruct",),
        ("olmo3",),
        tiny=("olmo-3",),
        notes=("vLLM runs transformers' own class",),
    ),
    Family(
        "OLMo 3 Think",
        ("allenai/Olmo-3-7B-Think",),
        ("olmo3",),
        thinking=Thinking("olmo3", THINK, END_THINK),
        marks=(THINK,),
        tiny=("olmo-3-think",),
        notes=("the prompt opens the thinking",),
    ),
    Family(
        "SmolLM 3",
        ("HuggingFaceTB/SmolLM3-3B",),
        ("smollm3",),
        thinking=QWEN_THINKING,
        tiny=("smollm3",),
        notes=("vLLM runs transformers' own class", "some layers have no rotary positions"),
    ),
    Family(
        "SmolVLM, Idefics 3",
        ("HuggingFaceTB/SmolVLM-Instruct",),
        ("idefics3", "smolvlm"),
        text_tower="llama",
        tower_prefix="model.text_model.",
        tiny=("smolvlm",),
        notes=(WRAPPER_NOTE, "content is a list of parts: a plain text would be dropped"),
    ),
    Family(
        "Command R",
        ("CohereLabs/c4ai-command-r7b-12-2024", "CohereLabs/c4ai-command-r-08-2024"),
        ("cohere2", "cohere"),
        tiny=("command-r7b",),
        notes=("no head of its own: logits are read off the embedding",),
    ),
    Family(
        "Llama 4",
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct",),
        ("llama4",),
        unproved_on_cpu=NEEDS_TORCHVISION,
        refused_as_target="its language model cannot be trained by itself",
        notes=(WRAPPER_NOTE, "experts"),
    ),
    Family(
        "DeepSeek V3, R1",
        ("deepseek-ai/DeepSeek-V3", "deepseek-ai/DeepSeek-R1"),
        ("deepseek_v3",),
        thinking=Thinking("deepseek_r1", THINK, END_THINK, "thinking"),
        refused_as_target="its weights are published quantized (FP8)",
        notes=("experts, latent attention; published in FP8",),
    ),
)


def family_of(config: Mapping[str, Any], template: str | None = None) -> Family | None:
    """The family of a model by its config.json; None for one that is not in the table.

    Several families may share a configuration class; `template`, the model's chat template, tells them apart. Without
    it the one that most people mean comes back.
    """
    fitting = [family for family in FAMILIES if config.get("model_type") in family.model_types]
    if template is not None and len(fitting) > 1:
        named = [family for family in fitting if any(mark in template for mark in family.marks)]
        fitting = named or [family for family in fitting if not family.marks] or fitting
    return fitting[0] if fitting else None
