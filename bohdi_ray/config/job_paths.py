"""Paths inside a Ray job, whose working directory is a temporary copy of what was uploaded. Light, no Ray.

Ray unpacks a job's package below its session's folder and may remove it at any time; jobs with the same package even
share it, so a run must not keep files there. A relative run directory of a job is below `$BOHDI_HOME`, or the home
directory, of the node that the driver runs on, and files that came with the package are copied into the run
(`kept_inputs`), which later resumes without the package.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.addresses import is_address
from bohdi_ray.errors import ConfigError, ConfigErrors

HOME = "BOHDI_HOME"
INPUTS = "inputs"  # in the run directory
KEPT_AS = {"tree.seed": "seed.yaml", "harvest.prompts": "prompts"}
RAYS_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray's: in the environment of a job's driver
STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"  # Ray's: from SIGTERM to SIGKILL; read from the environment of the job
RAYS_STOP_WAIT_S = 3.0  # where it is not set
ENDING_S = 60.0  # after drain and trainer: engines, journal, metrics
_SESSION = re.compile(r"/session_(latest|\d{4}-\d\d-\d\d_[^/]*)(/|$)")
_PACKAGE = re.compile(r"/session_[^/]+/runtime_resources/working_dir_files/[^/]+")


def in_rays_session(path: str | Path) -> bool:
    """Whether a path is in the folder of a Ray session, which is temporary."""
    return _SESSION.search(str(path)) is not None


def is_packaged(path: str | Path) -> bool:
    """Whether a path is in a job's package as Ray unpacked it."""
    return _PACKAGE.search(str(path)) is not None


def base_of_runs() -> Path:
    """The folder that relative run directories are resolved against: the working directory; if that is inside a folder
    of Ray's session, as in a job, `$BOHDI_HOME`, else the home directory."""
    here = Path.cwd()
    if not in_rays_session(here):
        return here
    return Path(os.path.expandvars(os.environ.get(HOME) or "~")).expanduser().absolute()


def run_location(run: str) -> str:
    """A run directory given by a user, as an absolute path; an address stays as it is."""
    return run if is_address(run) else os.path.normpath(base_of_runs() / Path(run).expanduser())


def stop_wait_s(drain_s: float) -> int:
    """How long a run may take to end after SIGTERM, in seconds: the drain of the harvest, that of the trainer, and the
    rest."""
    return round(2 * drain_s + ENDING_S)


def job_notices(config: FusionConfig) -> list[str]:
    """Notices for a person about this run as a Ray job; empty outside a job."""
    if RAYS_JOB not in os.environ:
        return []
    notices = [f"run directory: {config.run_dir}"]
    if in_rays_session(Path.cwd()) and not is_address(config.run_dir) and not os.environ.get(HOME):
        notices[0] += f" on this node (a relative one is below the home directory; ${HOME} names another folder)"
    wait_s, needed = float(os.environ.get(STOP_WAIT) or RAYS_STOP_WAIT_S), stop_wait_s(config.deadlines.drain_s)
    if wait_s < needed:
        notices.append(
            f"`ray job stop` kills this job {wait_s:g} s after it asked, and a drain may take {needed} s; steps under "
            f"way are then harvested again on resume. `bohdi submit` sets {STOP_WAIT}, or set it where Ray is started"
        )
    return notices


def kept_inputs(config: FusionConfig, resume: bool = False) -> FusionConfig:
    """The configuration, with starting domains and prompts of the job's package replaced by copies in RUN/inputs.

    With `resume` nothing is written: an input that equals its copy is replaced by the copy. Call it before the run
    directory is created. Raises ConfigErrors if the run directory is on an object store, because the copies could not
    be read from there.
    """
    came = _packaged_inputs(config)
    if came and is_address(config.run_dir):
        rule = "came with the job's package, which is temporary, and the run directory is an object store"
        remedy = "Name a file or folder that the cluster's nodes keep, by its full path."
        raise ConfigErrors([ConfigError(field, str(path), rule, remedy) for field, path in came.items()])
    run = Path(config.run_dir)
    kept = {field: run / INPUTS / KEPT_AS[field] for field in came}
    if not resume and not (run / "config.yaml").exists():  # if it does, the run is refused soon
        for field, path in came.items():
            _copy(path, kept[field])
    same = {field: str(kept[field]) for field, path in came.items() if _contents(path) == _contents(kept[field])}
    if "tree.seed" in same:
        config = config.model_copy(update={"tree": config.tree.model_copy(update={"seed": same["tree.seed"]})})
    if "harvest.prompts" in same:
        harvest = config.harvest.model_copy(update={"prompts": same["harvest.prompts"]})
        config = config.model_copy(update={"harvest": harvest})
    return config


def _packaged_inputs(config: FusionConfig) -> dict[str, Path]:
    named = {"tree.seed": config.tree.seed, "harvest.prompts": config.harvest.prompts}
    return {field: Path(path) for field, path in named.items() if path is not None and is_packaged(path)}


def _files(path: Path) -> list[Path]:
    """A file itself, or a folder's templates."""
    return sorted(path.glob("*.jinja")) if path.is_dir() else [path] if path.is_file() else []


def _contents(path: Path) -> list[tuple[str, bytes]]:
    return [(file.name if path.is_dir() else "", file.read_bytes()) for file in _files(path)]


def _copy(path: Path, into: Path) -> None:
    for file in _files(path):
        copy = into / file.name if path.is_dir() else into
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
