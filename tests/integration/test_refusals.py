"""`bohdi fuse` refuses input that cannot work, with code 2 and a remedy, before Ray or a run directory exists."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.timeout(60)


def model_folder(folder: Path, chat_template: bool) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 2048}))
    header = b'{"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (folder / "tokenizer.json").write_text("{}")
    if chat_template:
        (folder / "chat_template.jinja").write_text("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
    return folder


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["training.learning_rat=1"], ["training.learning_rat", "Did you mean `learning_rate`?"]),
        (["target.temperature=-0.5"], ["target.temperature = -0.5", "greater than or equal to 0"]),
        (["target.model=./nowhere"], ["target.model", "there is no such folder"]),
        (["sources.s.model=silent"], ["sources.0.model", "no chat template"]),
        (["target.resources.num_gpus=64", "target.engine.tensor_parallel_size=64"], ["target.resources", "64 GPU"]),
        (["training.num_workers=64", "training.resources_per_worker={CPU: 1, GPU: 1}"], ["needs 64 GPUs"]),
        (["run_dir=sealed/run"], ["run_dir", "read-only"]),
    ],
)
def test_input_that_cannot_work_is_refused_before_anything_starts(tmp_path, overrides, words):
    whole = str(model_folder(tmp_path / "whole", chat_template=True))
    model_folder(tmp_path / "silent", chat_template=False)
    (tmp_path / "sealed").mkdir(mode=0o555)
    sampling = {"answer": {"max_tokens": 256}}
    plain = {
        "run_dir": str(tmp_path / "run"),
        "sources": [{"name": "s", "model": whole, "sampling": sampling}],
        "target": {"name": "t", "model": whole, "sampling": sampling},
    }
    (tmp_path / "fusion.yaml").write_text(yaml.safe_dump(plain))
    # A process of its own: other tests of this session have a Ray that this one must not find.
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-m", "bohdi_ray.cli", "fuse", "fusion.yaml", *overrides],
        cwd=tmp_path,
        env={**environment, "RAY_TMPDIR": str(tmp_path / "ray")},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 2, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert not (tmp_path / "run").exists() and not (tmp_path / "ray").exists()
