"""No rule of the method is without a test: every file here begins with its rules and tests, and this file has them all.

The same numbers are in docs/fidelity.md, with the place in the code.
"""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PAGE = ROOT / "docs" / "fidelity.md"
FILES = sorted(path for path in HERE.glob("test_*.py") if path != Path(__file__))
LINE = re.compile(r"^(\d+\.\d+) +(test_\w+)$", re.M)
# Section 4, the harvest, is tested in tests/unit/harvest; docs/fidelity.md says where.
NUM_RULES = {1: 4, 2: 9, 3: 11, 5: 7, 6: 9, 7: 12}
RULES = {f"{section}.{number}" for section, last in NUM_RULES.items() for number in range(1, last + 1)}


def names_of_tests(path: Path) -> list[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def listed_in(path: Path) -> list[tuple[str, str]]:
    return LINE.findall(ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_lists_its_rules_and_every_test_it_has(path):
    listed = [test for _, test in listed_in(path)]
    assert sorted(set(listed)) == sorted(set(names_of_tests(path))), "the list at the head and the tests differ"


def test_every_rule_has_a_test():
    found = {rule for path in FILES for rule, _ in listed_in(path)}
    assert found == RULES


def test_the_page_has_every_rule_and_names_only_tests_and_files_that_exist():
    page = PAGE.read_text("utf-8")
    rows = dict(re.findall(r"^\| (\d+\.\d+) \|(.*)$", page, re.M))
    assert rows.keys() >= RULES
    everywhere = {name for path in (ROOT / "tests").rglob("test_*.py") for name in names_of_tests(path)}
    assert set(re.findall(r"`(test_\w+)`", page)) <= everywhere
    for path in re.findall(r"`((?:bohdi_ray|tests|jobs|docs)/[\w./-]+)`", page):
        assert (ROOT / path).exists(), path
    for rule, test in {pair for path in FILES for pair in listed_in(path)}:
        assert f"`{test}`" in rows[rule], f"{rule} on the page does not name {test}"
    for row in rows.values():
        # "walks.py: StepWalks._choose" names a file of the package and something in it.
        for file, name in re.findall(r"`([\w/]+\.py)`: `([\w.]+)`", row):
            text = (ROOT / "bohdi_ray" / file).read_text("utf-8")
            assert re.search(rf"\b{name.rpartition('.')[2]}\b", text), (file, name)
