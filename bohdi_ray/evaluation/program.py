"""`bohdi evaluate`: loads tasks, asks each subject's engines, compares, and saves. One subject after another, so that
each may use the whole cluster; versions of one run take turns in the same engines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bohdi_ray.config.addresses import is_address
from bohdi_ray.config.job_paths import base_of_runs
from bohdi_ray.errors import BohdiError, ConfigError
from bohdi_ray.evaluation.asking.answer_store import AnswerStore
from bohdi_ray.evaluation.asking.asker import Asker, Counts
from bohdi_ray.evaluation.comparing.interference import Interference, interference
from bohdi_ray.evaluation.comparing.report import (
    WIDE,
    interference_json,
    interference_text,
    lm_eval_json,
    rows_json,
    table_text,
    to_json,
)
from bohdi_ray.evaluation.comparing.results import Row, rows_of, usual_rows
from bohdi_ray.evaluation.fingerprint import EVALUATIONS, answers_of, fingerprint
from bohdi_ray.evaluation.harness.tasks import Tasks, check_generation, load_tasks
from bohdi_ray.evaluation.request import EvaluationRequest
from bohdi_ray.evaluation.subjects import (
    Subject,
    resolved,
    spec_of,
    subjects_of,
    tokenizer_of,
    with_window,
)
from bohdi_ray.run.filesystem import Place, place_of

SUMMARY, TABLE, REQUEST = "summary.json", "table.txt", "request.json"
VERSION = 1  # of summary.json

Tell = Callable[[str], None]
Progress = Callable[[str, int, int], None]  # of a subject: requests answered, and all


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One subject's scores and what they took."""

    subject: Subject
    results: Mapping[str, Any]  # lm-eval's own, with samples
    counts: Counts
    tokenization: Mapping[str, Any]
    fingerprint: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The whole result."""

    evaluated: tuple[Evaluated, ...]
    rows: tuple[Row, ...]
    interference: Mapping[str, Interference]  # by subject, against the first one
    text: str
    folder: str


def evaluate(request: EvaluationRequest, tell: Tell, progress: Progress) -> Evaluation:
    """Evaluates, saves and returns everything. Raises ConfigError or ConfigErrors before anything starts."""
    subjects = subjects_of(request.names, request.settings)
    if request.against is not None and request.against not in [subject.name for subject in subjects[1:]]:
        names = ", ".join(subject.name for subject in subjects[1:]) or "none"
        raise ConfigError("--against", request.against, "is no subject but the first", f"Name one of: {names}.")
    subjects = _one_window(subjects, tell)
    tokenizers = {subject.name: tokenizer_of(subject) for subject in subjects}
    for name, tokenizer in tokenizers.items():
        if request.chat and not tokenizer.chat_template:
            raise ConfigError("--chat", name, "has no chat template", "Leave --chat out.")
    tell("loading lm-eval and the tasks")
    tasks = load_tasks(request.tasks, request.allow_code)
    for subject in subjects:
        check_generation(tasks, subject.name, subject.window)
    _check_metrics(request.metrics, tasks)
    out = _out(request, subjects)  # last: what is refused leaves no folder
    with session(request.address) as (on_gpus, num_cpus):
        subjects = [resolved(subject, on_gpus, request.replicas, num_cpus) for subject in subjects]
        with contextlib.closing(_Engines(request.replicas, tell)) as engines:
            evaluated = [
                _evaluated(subject, tokenizers[subject.name], tasks, request, out, engines, tell, progress)
                for subject in subjects
            ]
    return _saved(evaluated, tasks, request, out)


def _one_window(subjects: Sequence[Subject], tell: Tell) -> list[Subject]:
    """The subjects with the smallest of their windows, so that all of them see the same prompts."""
    subjects = [with_window(subject) for subject in subjects]
    smallest = min(subject.window for subject in subjects)
    if any(subject.window != smallest for subject in subjects):
        tell(f"all models read at most {smallest} tokens, the smallest window here (--set engine.max_model_len=N)")
    return [with_window(subject, smallest) for subject in subjects]


def _check_metrics(metrics: Mapping[str, str], tasks: Tasks) -> None:
    for task, metric in metrics.items():
        known = tasks.metrics(task) if task in tasks.single else ()
        if metric.partition(",")[0] not in known:
            rule = f"has the metrics {', '.join(known)}" if known else "is none of the tasks"
            raise ConfigError(
                "--metric", f"{task}={metric}", f"{task} {rule}", "Write TASK=METRIC or TASK=METRIC,FILTER."
            )


@contextlib.contextmanager
def session(address: str | None) -> Iterator[tuple[bool, float]]:
    """A Ray session; yields whether it has GPUs, and its CPUs."""
    import ray

    from bohdi_ray.placement.ray_session import ray_session

    with ray_session(address, float(os.cpu_count() or 1)):
        there = ray.cluster_resources()
        yield there.get("GPU", 0) > 0, min(there.get("CPU", 1.0), float(os.cpu_count() or 1))


class _Engines:
    """The pool of the subject whose turn it is."""

    def __init__(self, replicas: int, tell: Tell):
        self._replicas, self._tell = replicas, tell
        self._pool: Any = None
        self._subject: Subject | None = None

    def of(self, subject: Subject) -> Any:
        """A pool whose engines have this subject's weights, or will have when they start."""
        from bohdi_ray.evaluation.asking.engine_pool import EnginePool

        if subject == self._subject:
            return self._pool
        if self._subject is not None and subject.same_engines(self._subject):
            assert subject.weights_dir is not None
            self._pool.load_weights(subject.version, subject.weights_dir)
        else:
            self.close()
            at_once = subject.model.engine.max_num_seqs
            self._pool = EnginePool(lambda number: self._make(number), self._replicas, at_once, subject.deadlines)
        self._subject = subject
        return self._pool

    def _make(self, number: int) -> Any:
        import ray

        from bohdi_ray.actors.engine_actor import EngineActor, actor_options
        from bohdi_ray.placement.pools.placement_groups import EngineGroup

        assert self._subject is not None
        self._tell(f"starting an engine for {self._subject.name}")
        options, resources = actor_options(self._subject.model, EngineGroup()), self._subject.model.resources
        options |= {"resources": dict(resources.custom), "label_selector": dict(resources.label_selector)}
        return ray.remote(**options)(EngineActor).remote(spec_of(self._subject))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool = self._subject = None


def _evaluated(
    subject: Subject,
    tokenizer: Any,
    tasks: Tasks,
    request: EvaluationRequest,
    out: Place,
    engines: _Engines,
    tell: Tell,
    progress: Progress,
) -> Evaluated:
    from bohdi_ray.evaluation.harness.language_model import EngineLM
    from bohdi_ray.evaluation.harness.run_tasks import run_tasks

    started, key = time.monotonic(), fingerprint(subject)
    with contextlib.closing(AnswerStore(answers_of(subject, key))) as store:
        asker = Asker(_Lazy(engines, subject), store, lambda done, total: progress(subject.name, done, total))
        lm = EngineLM(subject.name, tokenizer, subject.window, asker, subject.model.chat_template_kwargs)
        results = run_tasks(lm, tasks, request.limit, request.num_fewshot, request.chat, request.system)
    counts = asker.counts
    tell(
        f"{subject.name}: {counts.num_needed} requests of lm-eval; {counts.num_asked} asked of engines, "
        f"{counts.num_stored} answered before, {counts.num_shared} answered by another's prefill"
        + (f"; {counts.num_cut} cut to {subject.window} tokens" if counts.num_cut else "")
    )
    tokenization = dataclasses.asdict(lm.tokenization(request.chat))
    _save_results(out.child(subject.name.replace("/", "__")), results)
    return Evaluated(subject, results, counts, tokenization, key, time.monotonic() - started)


def _save_results(folder: Place, results: Mapping[str, Any]) -> None:
    """lm-eval's own files, under the names that its tools look for."""
    stamp = datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    folder.child(f"results_{stamp}.json").write_bytes(lm_eval_json(results))
    for task, samples in results["samples"].items():
        lines = b"".join(to_json(sample, None) for sample in samples)
        folder.child(f"samples_{task.replace('/', '__')}_{stamp}.jsonl").write_bytes(lines)


@dataclass(frozen=True, slots=True)
class _Lazy:
    """Engines that start when something is asked: with every answer in the store none does."""

    engines: _Engines
    subject: Subject

    def ask(self, requests: Sequence[Any], deliver: Any) -> None:
        self.engines.of(self.subject).ask(requests, deliver)


def _out(request: EvaluationRequest, subjects: Sequence[Subject]) -> Place:
    """The folder of this evaluation, with the request in it. Raises ConfigError if it cannot be written."""
    name = datetime.now().strftime("%Y%m%d-%H%M%S")
    runs = [subject.run for subject in subjects if subject.run is not None]
    if request.out is not None:
        # In a job the working directory is a package that Ray removes.
        out = place_of(request.out if is_address(request.out) else os.path.normpath(base_of_runs() / request.out))
    else:
        out = runs[0].place(f"{EVALUATIONS}/{name}") if runs else place_of(str(base_of_runs() / EVALUATIONS / name))
    try:
        out.child(REQUEST).write_bytes(to_json(dataclasses.asdict(request)))
    except (OSError, BohdiError) as error:
        rule = f"cannot be written: {' '.join(str(error).split())[:200]}"
        raise ConfigError("--out", out.shown, rule, "Name a folder that is new, or may be written to.") from None
    return out


def _saved(evaluated: Sequence[Evaluated], tasks: Tasks, request: EvaluationRequest, out: Place) -> Evaluation:
    results = {one.subject.name: one.results for one in evaluated}
    rows = rows_of(results, tasks.groups)
    names, found = list(results), {}
    usual = usual_rows(rows, request.metrics)
    for subject in names[1:]:
        differences = {task: row.differences[subject] for task, row in usual.items() if subject in row.differences}
        if differences:
            found[subject] = interference(differences)
    told = ""
    for subject, losses in found.items():
        against = None
        if request.against in found and request.against != subject:
            reduction = losses.less_than(found[request.against])
            against = (request.against, reduction) if reduction is not None else None
        told += "\n\n" + interference_text(losses, subject, names[0], against)
    summary = {
        "version": VERSION,
        "made_at": datetime.now().isoformat(timespec="seconds"),
        "settings": {
            "tasks": list(request.tasks),
            "limit": request.limit,
            "num_fewshot": request.num_fewshot,
            "chat_template": request.chat,
            "system": request.system,
            "engine": list(request.settings),
        },
        "subjects": [_subject_json(one) for one in evaluated],
        "rows": rows_json(rows),
        "interference": interference_json(found),
        "interference_metrics": {task: row.metric for task, row in usual.items()},
    }
    out.child(SUMMARY).write_bytes(to_json(summary))
    out.child(TABLE).write_bytes((table_text(rows, names, request.full) + told + "\n").encode())
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE
    text = table_text(rows, names, request.full, width) + told
    return Evaluation(tuple(evaluated), tuple(rows), found, text, out.shown)


def _subject_json(one: Evaluated) -> dict[str, Any]:
    subject = one.subject
    return {
        "name": subject.name,
        "path": subject.path,
        "run": subject.run.location if subject.run is not None else None,
        "weights_version": subject.version if subject.run is not None else None,
        "fingerprint": one.fingerprint,
        "revision": subject.model.revision,
        "dtype": subject.model.dtype,
        "tokenization": one.tokenization,
        "fewshot": {task: n for task, n in one.results.get("n-shot", {}).items()},
        "task_versions": one.results.get("versions", {}),
        "lm_eval_version": importlib.metadata.version("lm_eval"),
        "requests": dataclasses.asdict(one.counts),
        "seconds": round(one.seconds, 1),
    }
