"""Which models the installed transformers and vLLM have code for, read from their source.

Called for targets (families/targets.py), which transformers loads, and for sources (preflight/family_checks.py), which
vLLM runs. A model that neither knows needs its publisher's own code, which runs only if a person allows it. Nothing is
imported, because importing either library takes seconds. If a library is not installed, there is no finding.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from bohdi_ray.engines.families.library_source import module_tree
from bohdi_ray.engines.families.vllm_heads import registered


def needs_own_code(config: Mapping[str, Any]) -> bool:
    """Whether vLLM can run this model only with the code that its publisher ships with it."""
    architectures, known = config.get("architectures"), registered()
    if not config.get("auto_map") or not known:
        return False
    types = transformers_types() | vllm_types()
    named = architectures if isinstance(architectures, list) else []
    # What is not in vLLM's own table it runs as transformers' class, if that has one.
    classes = {*known, *transformers_decoders()}
    return config.get("model_type") not in types or classes.isdisjoint(named)


@cache
def transformers_types() -> frozenset[str]:
    """The model types that the installed transformers has a configuration class for."""
    return frozenset(
        _keys(
            "CONFIG_MAPPING_NAMES",
            "transformers.models.auto.auto_mappings",
            "transformers.models.auto.configuration_auto",
        )
    )


@cache
def transformers_decoders() -> frozenset[str]:
    """Its classes of language models, by name."""
    written = _statements("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "transformers.models.auto.modeling_auto")
    pairs = (node.elts for one in written for node in ast.walk(one) if isinstance(node, ast.Tuple))
    names = (pair[1] for pair in pairs if len(pair) == 2)
    return frozenset(name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str))


@cache
def vllm_types() -> frozenset[str]:
    """The model types that the installed vLLM has a configuration class for."""
    return frozenset(_keys("_CONFIG_REGISTRY", "vllm.transformers_utils.config"))


def _keys(name: str, *modules: str) -> Iterator[str]:
    """The string keys of a mapping."""
    for statement in _statements(name, *modules):
        yield from _written_keys(statement)


def _statements(name: str, *modules: str) -> Iterator[ast.stmt]:
    """The statements that create a mapping of this name or add to it."""
    for module in modules:
        tree = module_tree(module)
        for statement in tree.body if tree is not None else ():
            if any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(_head(statement))):
                yield statement


def _head(statement: ast.stmt) -> ast.AST:
    """The target of an assignment, or the method that the statement calls."""
    if isinstance(statement, ast.Assign):
        return statement.targets[0]
    if isinstance(statement, ast.AnnAssign):
        return statement.target
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return statement.value.func
    return ast.Pass()


def _written_keys(statement: ast.stmt) -> Iterator[str]:
    """The keys of dictionaries, of pairs in a list, and of keyword arguments."""
    for node in ast.walk(statement):
        keys: list[Any] = []
        if isinstance(node, ast.Dict):
            keys = list(node.keys)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
            keys = node.elts[:1]
        elif isinstance(node, ast.keyword) and node.arg is not None:
            yield node.arg
        yield from (key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
