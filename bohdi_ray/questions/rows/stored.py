"""A run's index of its corpus: made when the run begins, read by everybody afterwards."""

from __future__ import annotations

from functools import lru_cache

from bohdi_ray.config.kinds.questions import CorpusQuestions
from bohdi_ray.errors import ConfigError, RunDirError
from bohdi_ray.questions.rows.files import FIELD, CorpusFile, find_files
from bohdi_ray.questions.rows.index import CorpusIndex, build_index, from_bytes, to_bytes
from bohdi_ray.questions.rows.reader import RowReader
from bohdi_ray.run.filesystem import Place, place_of, storage_errors

FOLDER = "corpus"  # below the run directory
INDEX = f"{FOLDER}/index.arrow"


def counted_index(section: CorpusQuestions) -> CorpusIndex:
    """The index for counting, without copies of rows; built once per process while the files stay as they are. Raises
    ConfigError and StorageFailed."""
    return _counted(section, tuple(find_files(section.files)))


@lru_cache(maxsize=2)
def _counted(section: CorpusQuestions, found: tuple[CorpusFile, ...]) -> CorpusIndex:
    return build_index(section, found)


def write_index(section: CorpusQuestions, run: Place) -> None:
    """Makes the run's index, unless it is there. Raises ConfigError and StorageFailed."""
    if run.child(INDEX).exists():
        return
    index = counted_index(section)
    if index.needs_copies:
        index = build_index(section, index.files, run.child(FOLDER))
    run.child(INDEX).write_bytes(to_bytes(index))


def read_index(run: Place) -> CorpusIndex:
    """The run's index. Raises RunDirError and StorageFailed."""
    file = run.child(INDEX)
    try:
        return from_bytes(file.read_bytes(), file.shown)
    except FileNotFoundError:
        remedy = "Restore it from a copy, or begin a new run: which row a ticket stands for is not known without it."
        raise RunDirError(f"{file.shown} is missing. {remedy}") from None


def reader_of(section: CorpusQuestions, run_dir: str) -> tuple[RowReader, CorpusIndex]:
    """A reader of the run's rows, one for this process, and the index. Raises RunDirError and StorageFailed."""
    file = place_of(run_dir).child(INDEX)
    with storage_errors(file.shown, "look at"):
        changed_at = file.filesystem.get_file_info(file.path).mtime_ns or 0
    return _reader(section, run_dir, changed_at)


@lru_cache(maxsize=1)
def _reader(section: CorpusQuestions, run_dir: str, changed_at: int) -> tuple[RowReader, CorpusIndex]:
    run = place_of(run_dir)
    index = read_index(run)
    return RowReader(section, index, run.child(FOLDER)), index


def check_unchanged(now: CorpusIndex, run: Place) -> None:
    """Raises ConfigError if the files, counted again, are not what they were when the run began: its rows would be
    others. A run that stopped before it had an index has drawn nothing."""
    if not run.child(INDEX).exists():
        return
    found = {one.location: one for one in now.files}
    for known in read_index(run).files:
        same = found.pop(known.location, None)
        if same is None or same.digest != known.digest:
            rule = "it is not what it was when the run began" if same else "it was there when the run began"
            raise ConfigError(FIELD, known.place.shown, rule, "Put the old file back, or begin a new run.")
    if found:
        rule = "it was not there when the run began"
        raise ConfigError(FIELD, next(iter(found)), rule, "Move it away, name the others alone, or begin a new run.")
