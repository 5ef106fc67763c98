"""Tests import `fakes` and `tiny_models` from the tests folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
