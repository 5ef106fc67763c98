"""The recipes, read: what the tests of this folder share."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
KUBERAY = ROOT / "cluster/kuberay"


def documents(path: Path) -> list[dict[str, Any]]:
    """What a YAML file holds; parts that it names twice (`*anchor`) are copies here."""
    return [json.loads(json.dumps(document)) for document in yaml.safe_load_all(path.read_text("utf-8"))]


def pins(lock: str) -> dict[str, str]:
    """Versions by package in requirements/LOCK.txt."""
    lines = (ROOT / "requirements" / f"{lock}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def product_version() -> str:
    return re.search(r'__version__ = "(.+)"', (ROOT / "bohdi_ray/__init__.py").read_text())[1]


def crd_schemas() -> dict[str, Any]:
    """KubeRay's published schemas by kind, strict: like kubectl they refuse a field that is not in them."""
    stored = json.loads(gzip.decompress((Path(__file__).parent / "kuberay_crds.json.gz").read_bytes()))
    return {kind: strict(schema) for kind, schema in stored["schemas"].items()}


def strict(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return [strict(item) for item in schema] if isinstance(schema, list) else schema
    closed = {key: strict(value) for key, value in schema.items()}
    free = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and "type" in schema and not free:
        closed.setdefault("additionalProperties", False)
    return closed


def merge_patched(base: Any, patch: Any) -> Any:
    """RFC 7386, which is what kustomize does to kinds it has no schema of."""
    if not isinstance(patch, dict):
        return patch
    result = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patched(result.get(key), value)
    return result
