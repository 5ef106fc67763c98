"""Samples, a configuration and a run directory on the real file system, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from faulty_storage import Fault
from fsspec.implementations.local import LocalFileSystem

from bohdi_ray.config import FusionConfig
from bohdi_ray.records import Candidate, Sample, Verdict, question_hash, ticket_id
from bohdi_ray.run.run_dir import RunDir

SCORES = {"alpha": 0.5, "beta": 0.2, "student": 0.3}


def sample(
    index: int = 0, round: int = 0, step: int = 0, scores: dict[str, float] | None = None, **changes: object
) -> Sample:
    """A sample judged by `scores`; models without a score were cut off by the token limit."""
    scores = SCORES if scores is None else scores
    ranked = sorted(scores, key=lambda model: -scores[model])
    question = f"Question {index} of round {round} and step {step}: why?"
    candidates = tuple(
        Candidate(
            model=model,
            weights_version=round if model == "student" else 0,
            text=f"{model} answers {index}",
            num_tokens=10 + index,
            finish_reason="stop" if model in scores else "length",
            rejected=None if model in scores else "truncated",
        )
        for model in ("alpha", "beta", "student")
    )
    order = {model: -1.5 - i for i, model in enumerate(ranked)}
    made = Sample(
        sample_id=ticket_id(round, step, index),
        round=round,
        step=step,
        path=("Science", "Physics", "Optics"),
        style="a hard problem",
        leader="alpha",
        question=question,
        question_hash=question_hash(question),
        candidates=candidates,
        verdict=Verdict(
            policy="leader",
            judge="alpha" if len(scores) > 1 else None,
            scores=scores,
            order_logprobs=(order, order) if len(scores) > 1 else (),
            orders=(tuple(ranked), tuple(reversed(ranked))) if len(scores) > 1 else (),
            winner=ranked[0],
            margin=scores[ranked[0]] - scores[ranked[1]] if len(scores) > 1 else None,
        ),
        reward=int(ranked[0] != "student"),
        heldout=False,
        template_hash="ab" * 16,
        sampling={"answer/alpha": {"temperature": 0.7, "top_p": 0.8, "max_tokens": 128.0}, "judge/alpha": {}},
        seed=7,
        started_at=1.5,
        finished_at=2.5,
    )
    return replace(made, **changes)


@pytest.fixture
def make_sample() -> Callable[..., Sample]:
    return sample


@pytest.fixture
def config() -> FusionConfig:
    models = [{"name": name, "kind": "vllm", "model": f"/models/secret-owner/{name}"} for name in ("alpha", "beta")]
    return FusionConfig.model_validate(
        {
            "run_dir": "runs/x",
            "seed": 7,
            "sources": models,
            "target": {"name": "student", "model": "someone/student-1b", "revision": "abc"},
        }
    )


def through_fsspec() -> pafs.FileSystem:
    """A filesystem that is not pyarrow's local one, so that the paths for object stores are taken."""
    return pafs.PyFileSystem(pafs.FSSpecHandler(LocalFileSystem()))


@pytest.fixture(params=["local", "object store", "s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path, config: FusionConfig) -> RunDir:
    if request.param == "s3":
        return RunDir.create(request.getfixturevalue("s3_address"), config, {"bohdi_ray": "0.1.0"})
    filesystem = None if request.param == "local" else through_fsspec()
    return RunDir.create(tmp_path / "run", config, {"bohdi_ray": "0.1.0"}, filesystem)


@pytest.fixture
def fault() -> Fault:
    return Fault()
