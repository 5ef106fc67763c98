"""`bohdi submit evaluate` gives the job the same words, and takes folders of tasks along."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from bohdi_ray.cli import main


@pytest.fixture
def submitted(monkeypatch):
    """What reaches the job server: entrypoints, and the files of the job's folder."""
    seen = []

    class FakeServer:
        address = "http://head:8265"

        def __init__(self, address):
            pass

        def submit(self, entrypoint, folder, metadata, stop_wait_s, submission_id):
            files = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())
            seen.append(SimpleNamespace(entrypoint=entrypoint, files=files, id=submission_id))
            return "job-1"

    monkeypatch.setattr("bohdi_ray.submit.job_server.JobServer", FakeServer)
    return seen


def submit(*arguments):
    return CliRunner().invoke(main, ["submit", "evaluate", *map(str, arguments), "--no-wait"])


def test_the_job_runs_the_same_command_on_uploaded_tasks(submitted, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "task.yaml").write_text("task: mine\n")
    options = ["--limit", "5", "--chat", "--set", "dtype=float32", "--set", "engine.max_num_seqs=2"]
    result = submit("runs/a", "runs/b@best", "--tasks", f"{tmp_path}/mine,arc_easy", *options, "--installed")
    assert result.exit_code == 0, result.output
    (job,) = submitted
    words = shlex.split(job.entrypoint.removeprefix("exec python -m bohdi_ray.cli "))
    assert words[0] == "evaluate" and words[-3:] == ["--", "runs/a", "runs/b@best"]
    given = list(itertools.pairwise(words))
    assert ("--limit", "5") in given and ("--tasks", "./tasks-0,arc_easy") in given and "--chat" in words
    assert [value for flag, value in given if flag == "--set"] == ["dtype=float32", "engine.max_num_seqs=2"]
    assert "tasks-0/task.yaml" in job.files and "--allow-code" not in words
    # The words are understood by the command itself.
    context = main.commands["evaluate"].make_context("evaluate", words[1:])
    assert context.params["subjects"] == ("runs/a", "runs/b@best") and context.params["limit"] == 5


def test_the_code_goes_along_unless_it_is_installed(submitted):
    assert submit("runs/a", "--tasks", "arc_easy").exit_code == 0
    assert {"bohdi_ray/fusion.py", "bohdi_ray/evaluation/common_knowledge.txt"} <= set(submitted[0].files)


def test_what_makes_no_sense_is_refused_here(submitted):
    result = submit("runs/a", "--tasks", "arc_easy", "--system", "Be brief.")
    assert result.exit_code == 2 and "--system needs --chat" in result.output and not submitted


def test_submit_itself_is_as_it_was():
    shown = CliRunner().invoke(main, ["submit", "--help"]).output
    assert "[CONFIG] [KEY=VALUE]" in shown and "--resume" in shown and "bohdi submit evaluate" in shown
    assert "--tasks" in CliRunner().invoke(main, ["submit", "evaluate", "--help"]).output
