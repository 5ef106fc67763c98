"""What a model folder answers, and how likely it finds given answers, in plain transformers. Imports torch inside
functions. For measuring, beside the engines of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bohdi_ray.engines.chat import folds_system_prompt, render_chat
from bohdi_ray.engines.prompts import clean_text

MAX_NEW_TOKENS = 48  # more than any answer of a world has
AT_ONCE = 128


def greedy_answers(folder: Path | str, prompts: Sequence[str]) -> list[str]:
    """The model's answer to every prompt, through its own chat template, on the CPU in float32."""
    import torch
    from transformers.utils import logging

    from bohdi_ray.training.weights import load_model, load_tokenizer

    logging.disable_progress_bar()  # a fraction of a second each

    tokenizer = load_tokenizer(str(folder), padding_side="left")
    network = load_model(str(folder), dtype=torch.float32, attn_implementation="eager").eval()
    folded = folds_system_prompt(tokenizer)
    texts = [render_chat(tokenizer, None, prompt, folded) for prompt in prompts]
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
    """The log-probability of the answer of every (prompt, answer), nats per UTF-8 byte, as an engine scores it: the
    answer's tokens after the prompt's, without an end of turn."""
    import torch

    from bohdi_ray.training.weights import load_model, load_tokenizer

    tokenizer = load_tokenizer(str(folder), padding_side="right")
    network = load_model(str(folder), dtype=torch.float32, attn_implementation="eager").eval()
    folded = folds_system_prompt(tokenizer)

    def ids_of(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    found: list[float] = []
    for start in range(0, len(pairs), AT_ONCE):
        part = pairs[start : start + AT_ONCE]
        prompts = [ids_of(render_chat(tokenizer, None, prompt, folded)) for prompt, _ in part]
        answers = [ids_of(answer) for _, answer in part]
        whole = [torch.tensor(prompt + answer) for prompt, answer in zip(prompts, answers, strict=True)]
        ids = torch.nn.utils.rnn.pad_sequence(whole, batch_first=True, padding_value=tokenizer.pad_token_id)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(one) for one in whole], batch_first=True)
        with torch.no_grad():
            logprobs = network(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            before = torch.arange(len(prompt), len(prompt) + len(answer)) - 1  # what a token is predicted at
            total = logprobs[row, before, torch.tensor(answer, dtype=torch.long)].sum()
            found.append(float(total) / len(part[row][1].encode()))
    return found
