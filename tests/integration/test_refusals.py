"""`bohdi fuse` refuses input that cannot work, with code 2 and a remedy, before Ray or a run directory exists."""

import json
from pathlib import Path

import pytest
import ray
import yaml
from click.testing import CliRunner

from bohdi_ray.cli import main

pytestmark = pytest.mark.timeout(60)


def model_folder(folder: Path, chat_template: bool) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 2048}))
    header = b'{"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (folder / "tokenizer.json").write_text("{}")
    if chat_template:
        (folder / "chat_template.jinja").write_text("{{ messages }}")
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
def test_input_that_cannot_work_is_refused_before_anything_starts(tmp_path, monkeypatch, overrides, words):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
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
    done = CliRunner().invoke(main, ["fuse", "fusion.yaml", *overrides], catch_exceptions=False)
    assert done.exit_code == 2, done.output
    assert all(word in done.output for word in words), done.output
    assert not (tmp_path / "run").exists() and not ray.is_initialized()
