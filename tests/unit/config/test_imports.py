"""Imports point one way, and the light modules stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "bohdi_ray"
HEAVY = {"torch", "vllm", "ray", "deepspeed", "transformers"}
# Every module by the layer it belongs to; a module may import its own layer and lower ones when it is loaded.
LAYERS = {
    0: [
        *(
            "__init__",
            "addresses",
            "languages",
            "names",
            "records",
            "errors",
            "plain_yaml",
            "randomness",
            "job_paths",
            "quickstart",
        ),
        "config",
    ],
    1: [
        *("config.changes", "config.errors", "config.loading", "config.docs"),
        *("layout", "rounds", "tree", "engines"),
    ],
    2: ["storage", "harvest", "training", "simulation", "observe", "preflight"],
    3: ["shipment", "job_server", "plan", "run_state", "status", "tree_view", "evaluation", "actors"],
    4: ["driver", "fusion", "miniature"],
    5: ["cli"],
}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}
LIGHT = [
    "bohdi_ray",
    "bohdi_ray.cli",
    "bohdi_ray.cli.jobs",
    "bohdi_ray.cli.miniature",
    "bohdi_ray.cli.status",
    "bohdi_ray.status",
    "bohdi_ray.job_server",
    "bohdi_ray.shipment",
    "bohdi_ray.config",
    "bohdi_ray.config.loading",
    "bohdi_ray.plan",
    "bohdi_ray.preflight",
    "bohdi_ray.layout.placement",
    "bohdi_ray.quickstart",
    "bohdi_ray.miniature.report",
    "bohdi_ray.tree.manager",
]
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """What has a layer and this file belongs to: the file in its room, the room, or the top module."""
    return placed(path.relative_to(PACKAGE).with_suffix("").parts)


def placed(parts: tuple[str, ...]) -> str:
    """The same for a dotted name's parts, the package's own left out."""
    return name if (name := ".".join(parts[:2])) in LAYER_OF else parts[0]


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
def test_imports_point_to_lower_layers_only(path):
    assert room(path) in LAYER_OF, "give the new module a layer in this test"
    tree = ast.parse(path.read_text("utf-8"))
    for module in imports(tree, top_level=True):
        package, *parts = module.split(".")
        if package == "bohdi_ray" and parts and (other := placed(tuple(parts))) in LAYER_OF:
            assert LAYER_OF[other] <= LAYER_OF[room(path)], f"{path.name} imports {module} from above"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_what_is_only_for_tests_or_prints(path):
    for module in imports(ast.parse(path.read_text("utf-8")), top_level=False):
        assert module.split(".")[0] not in {"pytest", "hypothesis", "tests"}


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_nothing_heavy(module):
    program = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
