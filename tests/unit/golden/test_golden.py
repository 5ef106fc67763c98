"""Scripted fusions end as they did: the same tree, samples, held-out members and training rows, seed by seed."""

import ast
import json
from pathlib import Path

import pytest
from golden import KINDS, SEEDS, fusion, path_of

PACKAGE = Path(__file__).parents[3] / "bohdi_ray"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_scripted_fusion_gives_what_is_written_down(kind, seed):
    """If the change is meant: `python tests/unit/golden/golden.py --write`, and a line in the CHANGELOG."""
    written = json.loads(path_of(kind).read_text("utf-8"))[f"seed {seed}"]
    found = fusion(kind, seed)
    for part in ("failures", "samples", "heldout", "rows", "tree"):  # the most telling difference first
        assert found[part] == written[part], part


def test_the_written_fusions_are_worth_comparing():
    for kind in KINDS:
        written = json.loads(path_of(kind).read_text("utf-8"))
        assert len(written) == len(SEEDS)
        for one in written.values():
            assert len(one["samples"]) > 20 and all(rows["num_rows"] for rows in one["rows"])
    languages = json.loads(path_of("languages").read_text("utf-8"))
    assert any("量子力学" in line for one in languages.values() for line in one["samples"])
    assert any("duplicate_question" in one["failures"] for one in languages.values())


def numpy_functions(path: Path) -> set[str]:
    """What a file uses of NumPy by name."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)]
    return {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == "np"}


@pytest.mark.parametrize("room", ["tree", "harvest", "languages"])
def test_nothing_that_decides_computes_otherwise_on_another_processor(room):
    """NumPy has a logarithm, an exponential and a power of its own for processors with AVX-512, different in the last
    bit from the C library's, which it takes elsewhere."""
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    for path in files:
        found = numpy_functions(path) & {"exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "power", "tanh"}
        assert not found, f"{path.name} uses {found}: take math's"
