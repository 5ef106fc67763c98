"""Keeps lm-eval's and datasets' own progress bars and log lines off the terminal: an evaluation has its own. And
keeps lm-eval from looking over the machine and for a git repository, which takes seconds and prints errors."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While the block runs, every progress bar of tqdm's is off, and lm-eval logs errors alone."""
    import datasets
    import tqdm
    from lm_eval import evaluator

    logger, bars = logging.getLogger("lm_eval"), tqdm.std.tqdm
    level, make = logger.level, bars.__init__
    had_bars = datasets.are_progress_bars_disabled() is False
    logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    bars.__init__ = functools.partialmethod(make, disable=True)
    looks = evaluator.add_env_info, evaluator.get_git_commit_hash
    evaluator.add_env_info, evaluator.get_git_commit_hash = (lambda results: None), (lambda: None)
    try:
        yield
    finally:
        bars.__init__ = make
        evaluator.add_env_info, evaluator.get_git_commit_hash = looks
        logger.setLevel(level)
        if had_bars:
            datasets.enable_progress_bars()
