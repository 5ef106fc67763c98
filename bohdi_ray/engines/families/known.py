"""Which models transformers and vLLM have code for, read from the source of those that are installed.

Called for targets (families/targets.py), which transformers loads, and for sources (families/folder_checks.py), which
vLLM runs. What neither knows comes with its publisher's own code, which runs only where a person allows it. Nothing is
imported: either library takes seconds. A library that is not installed knows nothing, and nothing is said then.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bohdi_ray.engines.vllm_heads import _registered

# Files below the package, and the name whose keys are model types.
TRANSFORMERS = ("transformers", ("models/auto/auto_mappings.py", "models/auto/configuration_auto.py"))
TRANSFORMERS_NAME = "CONFIG_MAPPING_NAMES"
VLLM = ("vllm", ("transformers_utils/config.py",))
VLLM_NAME = "_CONFIG_REGISTRY"


def needs_own_code(config: Mapping[str, Any]) -> bool:
    """Whether vLLM runs this model only with the code that its publisher put beside it."""
    architectures, registered = config.get("architectures"), _registered()
    if not config.get("auto_map") or not registered:
        return False
    types = transformers_types() | vllm_types()
    named = architectures if isinstance(architectures, list) else []
    return config.get("model_type") not in types or not any(name in registered for name in named)


@cache
def transformers_types() -> frozenset[str]:
    """The model types that the installed transformers has a configuration class for."""
    return frozenset(_keys(*TRANSFORMERS, TRANSFORMERS_NAME))


@cache
def vllm_types() -> frozenset[str]:
    """Those that the installed vLLM has one for."""
    return frozenset(_keys(*VLLM, VLLM_NAME))


def _keys(package: str, files: tuple[str, ...], name: str) -> Iterator[str]:
    """Keys of a mapping, from the statements that make it or add to it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return
    if spec is None or spec.origin is None:
        return
    for file in files:
        path = Path(spec.origin).parent / file
        if not path.is_file():
            continue
        for statement in ast.parse(path.read_text("utf-8")).body:
            if any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(_head(statement))):
                yield from _written_keys(statement)


def _head(statement: ast.stmt) -> ast.AST:
    """What a statement assigns to, or the method that it calls."""
    if isinstance(statement, ast.Assign):
        return statement.targets[0]
    if isinstance(statement, ast.AnnAssign):
        return statement.target
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return statement.value.func
    return ast.Pass()


def _written_keys(statement: ast.stmt) -> Iterator[str]:
    """Of dictionaries, of pairs in a list, and of keywords."""
    for node in ast.walk(statement):
        keys: list[Any] = []
        if isinstance(node, ast.Dict):
            keys = list(node.keys)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
            keys = node.elts[:1]
        elif isinstance(node, ast.keyword) and node.arg is not None:
            yield node.arg
        yield from (key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
