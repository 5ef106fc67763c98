"""Answer-only labels and packing on real tokenizers and models of four chat template families."""

from __future__ import annotations

import pytest
from training_support import some_rows

from bohdi_ray.training.batches.batches import make_batch
from bohdi_ray.training.batches.encoding import EncodedRow, Encoder

FAMILIES = ("qwen2", "llama", "gemma2", "mistral")
QUESTION, ANSWER = "Why does light bend?", "It is slower in water.\nSo it bends."
# Written by hand from each family's published format: text the loss must not see, text it must see.
BY_HAND = {
    "qwen2": (
        "<|im_start|>system\nYou are a tiny model.<|im_end|>\n<|im_start|>user\nWhy does light bend?<|im_end|>\n"
        "<|im_start|>assistant\n",
        "It is slower in water.\nSo it bends.<|im_end|>",
    ),
    "llama": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhy does light bend?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "It is slower in water.\nSo it bends.<|eot_id|>",
    ),
    "gemma2": (
        "<bos><start_of_turn>user\nWhy does light bend?<end_of_turn>\n<start_of_turn>model\n",
        "It is slower in water.\nSo it bends.<end_of_turn>",
    ),
    "mistral": ("<s>[INST]Why does light bend?[/INST]", "It is slower in water.\nSo it bends.</s>"),
}


@pytest.fixture(scope="module")
def loaded(tiny_model_dir):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def load(family: str):
        folder = tiny_model_dir(family, tie_word_embeddings=family == "gemma2")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
        return AutoTokenizer.from_pretrained(folder), model

    return {family: load(family) for family in FAMILIES}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_sees_exactly_the_answer_and_its_end_of_turn(loaded, family):
    tokenizer, _ = loaded[family]
    row = Encoder(tokenizer, None, 512).encode(QUESTION, ANSWER)
    assert isinstance(row, EncodedRow)
    prompt, answer = BY_HAND[family]
    assert tokenizer.decode(row.ids[: row.num_prompt]) == prompt
    assert tokenizer.decode(row.ids[row.num_prompt :]) == answer
    assert list(row.ids) == tokenizer.encode(prompt + answer, add_special_tokens=False)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_sum_of_answer_log_probabilities_computed_by_hand(loaded, family):
    import torch

    from bohdi_ray.training.objectives.logits import answer_losses, to_tensors

    tokenizer, model = loaded[family]
    prompt, answer = BY_HAND[family]
    ids = tokenizer.encode(prompt + answer, add_special_tokens=False)
    num_prompt = len(tokenizer.encode(prompt, add_special_tokens=False))
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        by_hand = -sum(logprobs[t - 1, ids[t]].item() for t in range(num_prompt, len(ids)))
        row = Encoder(tokenizer, None, 512).encode(QUESTION, ANSWER)
        losses = answer_losses(model, to_tensors(make_batch([[row]], packing=False), "cpu"))
    assert losses.sum().item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_in_a_pack_have_the_losses_they_have_alone(loaded, family):
    import torch

    from bohdi_ray.training.objectives.logits import answer_losses, row_sums, to_tensors

    tokenizer, model = loaded[family]
    encoder = Encoder(tokenizer, None, 256)
    encoded = [encoder.encode(row.question, row.answer) for row in some_rows(0, 5)]

    def sums(lines, packing):
        batch = to_tensors(make_batch(lines, packing), "cpu")
        return row_sums(answer_losses(model, batch), batch).tolist()

    with torch.no_grad():
        alone = [sums([[row]], False)[0] for row in encoded]
        packed = sums([encoded[:2], encoded[2:]], True)
        padded = sums([[row] for row in encoded], False)
    assert packed == pytest.approx(alone, rel=1e-5)
    assert padded == pytest.approx(alone, rel=1e-5)


@pytest.mark.timeout(120)
def test_chunked_losses_have_the_value_and_gradient_of_the_plain_ones(monkeypatch):
    import torch
    import torch.nn.functional as F

    from bohdi_ray.training.objectives import logits as objectives

    monkeypatch.setattr(objectives, "CHUNK_TOKENS", 4)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(11, 30, generator=generator, requires_grad=True)
    labels = torch.randint(30, (11,), generator=generator)
    plain = F.cross_entropy(logits, labels, reduction="none")
    chunked = objectives.token_losses(logits, labels)
    torch.testing.assert_close(chunked, plain)
    gradients = [torch.autograd.grad((losses * torch.arange(11)).sum(), logits)[0] for losses in (plain, chunked)]
    torch.testing.assert_close(gradients[0], gradients[1])
