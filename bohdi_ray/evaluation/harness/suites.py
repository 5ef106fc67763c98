"""Sets of tasks by name, as lm-eval calls them: what the papers on fusing language models report."""

from __future__ import annotations

# In the papers' order. Where lm-eval has several forms of a task, the one that is closest to what the paper says.
SUITES: dict[str, tuple[str, ...]] = {
    # Bohdi, table 1. TheoremQA is missing: lm-eval does not have it. The paper used OpenCompass (docs/evaluation.md).
    "bohdi-paper": (
        "mmlu",
        "gpqa_main_n_shot",
        "gsm8k",
        "minerva_math",
        "humaneval",
        "mbpp",
        "bbh_cot_fewshot",
    ),
    # FuseLLM and Fusion-X, "common sense".
    "commonsense": ("arc_easy", "arc_challenge", "boolq", "hellaswag", "openbookqa"),
    # Many small tasks: where interference shows.
    "bbh-mmlu": ("bbh_cot_fewshot", "mmlu"),
}
