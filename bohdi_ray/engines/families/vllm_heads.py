"""Which of vLLM's model classes have an LM head of their own, read from the source of the installed vLLM.

Called by training/weights/versions.py: vLLM's CPU build packs a head and does not pack it again on a reload when it is
tied to the embedding, so weights are published with the head as a tensor of its own, except for classes that compute
their logits from the embedding itself and would refuse one. A list of those by name would be outdated by the next vLLM,
so the source is asked. Nothing of vLLM is imported: that takes ten seconds.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from bohdi_ray.engines.families.library_source import module_tree, package_root

MODELS = "vllm.model_executor.models"
HEAD, TIE = "ParallelLMHead", "tie_weights"


def takes_own_head(architecture: str) -> bool:
    """Whether vLLM's class for this architecture loads an `lm_head.weight` that is not tied to the embedding.

    True for an architecture that this vLLM does not name, and without vLLM: most classes do.
    """
    place = registered().get(architecture)
    if place is None:
        return True
    module, name = place
    bodies = _bodies(f"{MODELS}.{module}", name, frozenset())
    if not bodies:
        return True
    has_head = any(isinstance(node, ast.Name) and node.id == HEAD for body in bodies for node in ast.walk(body))
    return has_head and not any(_always_ties(body) for body in bodies)


def _always_ties(body: ast.ClassDef) -> bool:
    """Whether a class ties its head whatever the configuration says: outside any `if` about tied embeddings."""

    def ties(node: ast.AST) -> bool:
        if isinstance(node, ast.If) and "tie" in ast.unparse(node.test):
            return False
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == TIE:
            return True
        return any(map(ties, ast.iter_child_nodes(node)))

    return ties(body)


@cache
def registered() -> dict[str, tuple[str, str]]:
    """Architecture -> module and class, from the tables of vLLM's model registry."""
    tree = module_tree(f"{MODELS}.registry")
    found: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree) if tree is not None else ():
        if not isinstance(node, ast.Dict):
            continue
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(value, ast.Tuple) and len(value.elts) == 2:
                names = [part.value for part in value.elts if isinstance(part, ast.Constant)]
                if len(names) == 2 and all(isinstance(name, str) for name in names):
                    found.setdefault(str(key.value), (str(names[0]), str(names[1])))
    return found


def _bodies(module: str, name: str, seen: frozenset[tuple[str, str]]) -> list[ast.ClassDef]:
    """The class and, recursively, its base classes, as far as they are vLLM model classes."""
    tree = module_tree(module)
    if tree is None or (module, name) in seen or not module.startswith(MODELS):
        return []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            return [node] + [body for base in bases for body in _bodies(module, base, seen | {(module, name)})]
    for found in ast.walk(tree):
        if isinstance(found, ast.ImportFrom):
            for alias in found.names:
                if (alias.asname or alias.name) == name:
                    return _bodies(_absolute(module, found), alias.name, seen | {(module, name)})
    return []


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    tree_is_package = not (package_root("vllm") or Path()).joinpath(*module.split(".")[1:]).with_suffix(".py").is_file()
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + tree_is_package]
    return ".".join([*parts, *filter(None, [node.module])])
