"""The domains that a run's tree starts with."""

from __future__ import annotations

from pathlib import Path

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.kinds.questions import CorpusQuestions
from bohdi_ray.errors import ConfigError
from bohdi_ray.questions.rows.files import find_files
from bohdi_ray.questions.rows.stored import read_index, write_index
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.tree.names import Grown, Seeds, read_seeds


def corpus_files(config: FusionConfig) -> list[str]:
    """The files of the run's corpus, [] without one. Raises ConfigError and StorageFailed."""
    questions = config.questions
    return [file.location for file in find_files(questions.files)] if isinstance(questions, CorpusQuestions) else []


def keep_corpus(config: FusionConfig, run: RunDir) -> None:
    """Makes the run's index of its corpus, if it has one and nothing is drawn yet. Raises ConfigError, RunDirError and
    StorageFailed."""
    if isinstance(config.questions, CorpusQuestions) and not Segments(run).numbers():
        write_index(config.questions, run.place(""))


def starting_domains(config: FusionConfig, run: RunDir) -> Seeds:
    """Those of `tree.seed`; with a corpus its leaves with the tickets of each; or None. Raises ConfigError, RunDirError
    and StorageFailed."""
    questions = config.questions
    if isinstance(questions, CorpusQuestions):
        rows = read_index(run.place("")).rows_by_leaf
        return Grown({leaf: count * questions.epochs for leaf, count in rows.items()})
    if config.tree.seed is None:
        return None
    try:
        return read_seeds(Path(config.tree.seed).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        remedy = "Restore the file to that path."
        raise ConfigError("tree.seed", config.tree.seed, f"the run started with it ({error})", remedy) from error
