"""Every model family as a source: a tiny checkpoint, laid out as its publisher lays it out, under vLLM on this CPU.

It starts, answers, is asked for labels, and scores a given answer as transformers does with the published weights. In
`make test` each quirk comes once; the others, and Mistral's files in further arrangements, are in `make test-long`.
What this CPU cannot run is refused by name (tests/unit/engines/test_families.py).
"""

import math
from pathlib import Path

import pytest
from engine_support import SMALL, Running, generation, vllm_model
from tiny_families import FAMILIES, build_family

from bohdi_ray.config.loading import load_config
from bohdi_ray.engines import families
from bohdi_ray.records import ScoreRequest

INDEPENDENT = True  # each may be in another part of `make test-long`
pytestmark = pytest.mark.timeout(300)
CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"
SYSTEM, QUESTION, ANSWER = "You are a terse expert.", "Why is the sky blue?", "Light bends, as a wave does."
# The paper's sources, by hub id.
PAPER = {
    "Qwen/Qwen2.5-14B-Instruct": "qwen2.5",
    "mistralai/Mistral-Small-24B-Instruct-2501": "mistral-small-2501",
    "microsoft/phi-4": "phi-4",
}
BY_KIND = (
    "r1-distill-llama",  # a tokenizer class that does not fit; the prompt opens the thinking
    "smolvlm",  # content as a list of parts, the template in chat_template.json, a wrapper
    "olmo-2",  # transformers' own class inside vLLM
)
PROVED = [family for family in families.FAMILIES if family.unproved_on_cpu is None]
PACKED = "gpt-oss-mxfp4"  # refused on a CPU
OTHERS = [tiny for family in PROVED for tiny in family.tiny if tiny not in (*BY_KIND, *PAPER.values(), PACKED)]


def spoil_consolidated(folder: Path) -> None:
    """Mistral's own weights as zeros: whoever reads them computes something else."""
    import torch
    from safetensors.torch import load_file, save_file

    for file in folder.glob("consolidated*.safetensors"):
        save_file({name: torch.zeros_like(tensor) for name, tensor in load_file(file).items()}, file)


def transformers_logprob(folder: Path, name: str, ids: list[int], num_answer: int) -> float:
    """The answer's log-probability by transformers' own class, nats."""
    import torch
    import transformers

    kind = getattr(transformers, FAMILIES[name].model_class)
    network = kind.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval()
    with torch.no_grad():
        logits = network(torch.tensor([ids])).logits[0].float()
    logprobs = logits[:-1].log_softmax(-1)[range(len(ids) - 1), ids[1:]]
    return float(logprobs[-num_answer:].sum())


def works_as_a_source(running: Running, folder: Path, name: str) -> None:
    """Answers, labels and scores of one started engine."""
    done = running.ask(
        generation("answer", QUESTION),
        generation("label", QUESTION, choices=("A", "B", "C")),
        ScoreRequest("score", "judge", QUESTION, ANSWER),
    )
    assert all(completion.error is None for completion in done.values()), done
    assert done["answer"].finish_reason in ("stop", "length") and 0 < done["answer"].num_tokens <= 24
    assert done["label"].text in done["label"].choice_logprobs
    assert sum(math.exp(p) for p in done["label"].choice_logprobs.values()) == pytest.approx(1, abs=1e-6)
    answers = running.engine._answers
    prompt, answer = answers.prompt_ids(QUESTION), answers._encode(ANSWER)
    text = answers._tokenizer.decode(prompt)
    assert SYSTEM in text and QUESTION in text and text.index(SYSTEM) < text.index(QUESTION)
    expected = transformers_logprob(folder, name, [*prompt, *answer], len(answer))
    assert abs(done["score"].logprob - expected) < 0.1 * len(answer)


def start_and_work(model, folder: Path, name: str) -> None:
    running = Running(model, str(folder))
    try:
        works_as_a_source(running, folder, name)
    finally:
        running.close()


@pytest.mark.parametrize("hub_id", list(PAPER))
def test_the_papers_sources_start_from_folders_as_their_publishers_lay_them_out(tmp_path, hub_id):
    (source,) = [one for one in load_config(CONFIGS / "paper.yaml").sources if one.model == hub_id]
    folder = build_family(PAPER[hub_id], tmp_path / "model")
    spoil_consolidated(folder)
    fields = {"model": str(folder), "engine": SMALL, "system_prompt": SYSTEM, "resources": {"num_gpus": 0}}
    start_and_work(type(source).model_validate({**source.model_dump(), **fields}), folder, PAPER[hub_id])


@pytest.mark.parametrize("name", [*BY_KIND, *(pytest.param(name, marks=pytest.mark.long(4)) for name in OTHERS)])
def test_a_family_works_as_a_source(tmp_path, name):
    folder = build_family(name, tmp_path / "model")
    spoil_consolidated(folder)
    # Random weights do not end a thought: those that think are asked without.
    sampling = {"answer": {"reasoning_max_tokens": 0}}
    start_and_work(vllm_model(folder, system_prompt=SYSTEM, sampling=sampling), folder, name)


@pytest.mark.long(5)
def test_mistrals_weights_are_not_read_where_no_index_tells_them_from_the_others(tmp_path):
    import dataclasses

    import tiny_families

    single = dataclasses.replace(FAMILIES["mistral-nemo"], shards=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny_families.FAMILIES, "mistral-nemo", single)
        folder = build_family("mistral-nemo", tmp_path / "model")
    spoil_consolidated(folder)
    start_and_work(vllm_model(folder, system_prompt=SYSTEM), folder, "mistral-nemo")


@pytest.mark.long(5)
def test_a_folder_whose_only_tokenizer_is_mistrals_works_as_a_source(tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = build_family("mistral-small-2501", tmp_path / "model")
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "consolidated.safetensors"):
        (folder / file).unlink()
    config = AutoConfig.from_pretrained(folder)
    config.vocab_size = 2048  # as many as the tekken.json has, cut as it is
    AutoModelForCausalLM.from_config(config, dtype="bfloat16").save_pretrained(folder)
    for file in (*folder.glob("model-*.safetensors"), folder / "model.safetensors.index.json"):
        file.unlink()
    start_and_work(vllm_model(folder, system_prompt=SYSTEM), folder, "mistral-small-2501")
