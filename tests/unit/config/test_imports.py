"""Imports point one way, and the light modules stay light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "bohdi_ray"
HEAVY = {"torch", "vllm", "ray", "deepspeed", "transformers"}
# Every room and loose module, lowest first: when it is loaded, a module imports its own room and those before it.
ORDER = (
    *("errors", "languages", "records", "randomness", "config", "names", "engines", "tree", "__init__", "run"),
    *("examples", "questions", "harvest", "observe", "deadlines", "placement", "training", "evaluation", "actors"),
    *("rounds", "preflight", "submit", "driver", "fusion", "studies", "cli"),
)
PRODUCT = [
    room for room in ORDER if room not in ("studies", "cli")
]  # what studies are made with; it needs none of them
LIGHT = [
    "bohdi_ray",
    "bohdi_ray.cli",
    "bohdi_ray.cli.jobs",
    "bohdi_ray.cli.miniature",
    "bohdi_ray.cli.status",
    "bohdi_ray.observe.status",
    "bohdi_ray.submit.job_server",
    "bohdi_ray.submit.job_package",
    "bohdi_ray.config",
    "bohdi_ray.config.loading",
    "bohdi_ray.harvest.plan",
    "bohdi_ray.questions",
    "bohdi_ray.preflight.plan",
    "bohdi_ray.preflight",
    "bohdi_ray.placement.placement",
    "bohdi_ray.studies.quickstart",
    "bohdi_ray.studies.miniature.report",
    "bohdi_ray.tree.manager",
]
FILES = sorted(PACKAGE.rglob("*.py"))
TOLD = [PACKAGE.parent / folder for folder in ("tests", "jobs", "cluster", "requirements")]


def room(path: Path) -> str:
    """The room of a file, or the loose module that it is."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(tree: ast.AST, top_level: bool) -> list[str]:
    """Modules imported; with `top_level` only when the module is loaded, not inside functions or for type checking."""
    found = []
    pending = list(ast.iter_child_nodes(tree))
    while pending:
        node = pending.pop()
        if top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if top_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            found += [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
        pending += list(ast.iter_child_nodes(node))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_to_lower_rooms_only(path):
    assert room(path) in ORDER, "give the new room a place in this test"
    for module in imports(ast.parse(path.read_text("utf-8")), top_level=True):
        package, *parts = module.split(".")
        if package == "bohdi_ray" and parts and parts[0] in ORDER:
            assert ORDER.index(parts[0]) <= ORDER.index(room(path)), f"{path.name} imports {module} from above"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_product_needs_no_study(path):
    for module in imports(ast.parse(path.read_text("utf-8")), top_level=False):
        assert room(path) not in PRODUCT or not module.startswith("bohdi_ray.studies"), module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_a_file_says_of_other_files_is_about_files_that_exist(path):
    named = set(re.findall(r"(?<![\w.])([a-z_]+\.py)\b", path.read_text("utf-8")))
    assert named <= {file.name for folder in (PACKAGE, *TOLD) for file in folder.rglob("*.py")}


def test_the_main_loop_is_read_in_one_go_and_no_file_is_long():
    num_lines = {path: len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert num_lines[PACKAGE / "fusion.py"] <= 120
    assert {str(path): n for path, n in num_lines.items() if n > 300} == {}


@pytest.mark.parametrize(
    "path", [path for path in FILES if room(path) in ("rounds", "fusion")], ids=lambda path: path.name
)
def test_what_decides_knows_nothing_of_what_shows(path):
    """Console, metrics, trackers and Prometheus get events; figures and events themselves are no display."""
    for module in imports(ast.parse(path.read_text("utf-8")), top_level=False):
        if module.startswith("bohdi_ray.observe."):
            assert module.split(".")[2] in ("intervals", "summary"), module


def test_the_house_has_room():
    """Folders of at most 16 files, few loose modules: what grows beyond finds a room of its own."""
    assert len(list(PACKAGE.glob("*.py"))) <= 9  # __init__ and eight
    for folder in {path.parent for path in FILES}:
        assert len(list(folder.glob("*.py"))) <= 16, folder


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_what_is_only_for_tests_or_prints(path):
    for module in imports(ast.parse(path.read_text("utf-8")), top_level=False):
        assert module.split(".")[0] not in {"pytest", "hypothesis", "tests"}


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_nothing_heavy(module):
    program = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
