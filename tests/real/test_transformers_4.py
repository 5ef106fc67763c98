"""RUN/target means the same to transformers 4, on which many serving stacks stand, as to transformers 5."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from target_support import logits_of, published
from tiny_families import build_family

from bohdi_ray.engines.chat.hf_tokenizer import load_tokenizer
from bohdi_ray.training.weights.versions import export_target

ROOT = Path(__file__).parents[2]
DEADLINE_S = 300
TEXT = "Why is 12 + 5 not 12 - 5?  Und übrigens: 水はなぜ透明?"
IDS = list(range(40, 80)) * 4  # longer than a sliding window
# Plain decoders of before transformers 5.
KNOWN_TO_4 = (
    *("llama-3.1", "llama-3.2", "smollm2", "smollm3", "mistral-7b-v0.3", "mistral-nemo", "mistral-small-2501"),
    *("qwen2.5", "qwen3", "gemma-2", "gemma-3-text", "phi-3", "phi-4", "olmo-2", "granite-3", "command-r7b"),
    *("r1-distill-llama", "r1-distill-qwen"),
)
READ = """
import json, sys
import torch, transformers
assert transformers.__version__.startswith("4."), transformers.__version__
text, ids, folders, out = json.loads(sys.stdin.read())
found = {}
for name, folder in folders.items():
    model, told = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"], (name, told)
    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids])).logits[0]
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
    found[name] = {"logits": logits, "tokens": tokens}
torch.save(found, out)
"""


@pytest.fixture(scope="module")
def transformers_4(tmp_path_factory) -> Path:
    """A folder for PYTHONPATH, before the environment's own packages."""
    folder = tmp_path_factory.mktemp("transformers-4")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    wanted = ["--target", str(folder), "-r", str(ROOT / "requirements" / "transformers-4.txt")]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.long(60)
@pytest.mark.timeout(2 * DEADLINE_S)
def test_transformers_4_computes_the_same_from_an_exported_target(transformers_4, tmp_path):
    import torch
    import transformers

    folders = {}
    for name in KNOWN_TO_4:
        weights = Path(published(build_family(name, tmp_path / name / "model"), tmp_path / name / "base"))
        folders[name] = tmp_path / name / "target"
        export_target(str(weights), str(weights.parent), str(folders[name]))
    out = tmp_path / "found.pt"
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=json.dumps([TEXT, IDS, {name: str(folder) for name, folder in folders.items()}, str(out)]),
        env=os.environ | {"PYTHONPATH": str(transformers_4), "TRANSFORMERS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    other_logits, other_tokens = {}, set()
    for name, read in torch.load(out).items():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folders[name], dtype=torch.float32, attn_implementation="eager"
        )
        if (difference := float((read["logits"] - logits_of(model.eval(), IDS)).abs().max())) > 1e-5:
            other_logits[name] = difference
        tokenizer = load_tokenizer(str(folders[name]))  # a chat template writes its special tokens itself
        if read["tokens"] != tokenizer(TEXT, add_special_tokens=False)["input_ids"]:
            other_tokens.add(name)
    assert other_logits == {}
    assert other_tokens == set()
