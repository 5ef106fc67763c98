"""The source of an installed library, as syntax trees. Nothing is imported, because importing takes seconds."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path


@cache
def package_root(package: str) -> Path | None:
    """The folder of a package; None if it is not installed."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


@cache
def module_tree(module: str) -> ast.Module | None:
    """The syntax tree of a module by its dotted name; None if there is none."""
    package, *parts = module.split(".")
    if (root := package_root(package)) is None:
        return None
    path = root.joinpath(*parts)
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return ast.parse(file.read_text("utf-8"))
    return None
