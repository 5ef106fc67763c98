"""`--smoke`, for every program of this folder: the smallest run that still goes through all of its parts.

Its figures mean nothing. `make test-long` runs each program this way, so that none of them stops working unnoticed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[2] / "tests"


def parse(parser: argparse.ArgumentParser, **smallest: Any) -> argparse.Namespace:
    """The command line's options; with --smoke those named here have these values."""
    parser.add_argument("--smoke", action="store_true", help="the smallest run, to see that the program still works")
    options = parser.parse_args()
    if options.smoke:
        vars(options).update(smallest)
    return options


def tiny_model() -> str:
    """A folder with a model of half a million parameters and random weights, which stays until the machine clears its
    temporary files."""
    sys.path.insert(0, str(TESTS))
    from tiny_models import build_tiny_model

    folder = Path(tempfile.mkdtemp(prefix="bohdi-smoke-"))
    return str(build_tiny_model("llama", folder, tie_word_embeddings=True))
