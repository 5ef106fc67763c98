"""Answers of a model folder, and its likelihood of given answers, in plain transformers. For evaluation outside the
engines of a run. Imports torch inside functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bohdi_ray.engines.chat.rendering import chat_shape, render_chat
from bohdi_ray.engines.prompts import clean_text

MAX_NEW_TOKENS = 48  # more than any answer of a world has
AT_ONCE = 128


def greedy_answers(folder: Path | str, prompts: Sequence[str]) -> list[str]:
    """The model's answer to every prompt, through its own chat template, on the CPU in float32."""
    import torch
    from transformers.utils import logging

    from bohdi_ray.training.weights.versions import load_model, load_tokenizer

    logging.disable_progress_bar()  # a fraction of a second each

    tokenizer = load_tokenizer(str(folder), padding_side="left")
    network = load_model(str(folder), dtype=torch.float32, attn_implementation="eager").eval()
    shape = chat_shape(tokenizer)
    texts = [render_chat(tokenizer, None, prompt, shape) for prompt in prompts]
    answers: list[str] = []
    for start in range(0, len(texts), AT_ONCE):
        batch = tokenizer(texts[start : start + AT_ONCE], padding=True, add_special_tokens=False, return_tensors="pt")
        with torch.no_grad():
            made = network.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
            )
        new = made[:, batch["input_ids"].shape[1] :]
        answers += [clean_text(text) for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
    return answers


def log_probabilities(folder: Path | str, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The log-probability of the answer in each (prompt, answer), nats per UTF-8 byte, computed as an engine scores it:
    on the answer's tokens after the prompt's, without an end of turn."""
    import torch

    from bohdi_ray.training.objectives.logits import token_logprobs
    from bohdi_ray.training.weights.versions import load_model, load_tokenizer

    tokenizer = load_tokenizer(str(folder))
    network = load_model(str(folder), dtype=torch.float32, attn_implementation="eager").eval()
    shape = chat_shape(tokenizer)
    found = []
    for prompt, answer in pairs:
        before = tokenizer.encode(render_chat(tokenizer, None, prompt, shape), add_special_tokens=False)
        said = tokenizer.encode(answer, add_special_tokens=False)
        logprobs = token_logprobs(network, [*before, *said], "cpu")
        found.append(sum(logprobs[-len(said) :]) / len(answer.encode()))
    return found
