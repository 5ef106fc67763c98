"""The locks: complete, exact, and free of addresses."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PIN = re.compile(r"[a-z0-9-]+==[A-Za-z0-9.!]+")


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def normal(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[=<>]", requirement)[0].strip()).lower()


@pytest.mark.parametrize("name", ["cpu", "gpu", "dev"])
def test_every_line_is_an_exact_version_without_an_address(name):
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        assert line.startswith("# Made by") or PIN.fullmatch(line), line


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_a_lock_has_all_direct_dependencies_in_the_stated_versions(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = pins(name)
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *extras["studies"], *extras[name]]:
        assert normal(requirement) in locked, requirement
        if "==" in requirement:
            assert locked[normal(requirement)] == requirement.split("==")[1]
    # What only classes for sound and video import; source that compiles for many minutes.
    assert not {"torchaudio", "torchcodec", "llama-cpp-python"} & set(locked)


def test_the_gpu_lock_has_cuda_packages_and_the_cpu_lock_has_none():
    assert any(package.startswith("nvidia-") for package in pins("gpu"))
    assert not any(package.startswith("nvidia-") for package in pins("cpu"))


def test_torchvision_is_where_it_can_be_loaded():
    """vLLM's classes for models with images import it, also for text; its wheels are CUDA builds."""
    assert "torchvision" not in {**pins("cpu"), **pins("dev")}
    # Each release of torchvision needs one release of torch: 0.28.0 says torch==2.13.0.
    assert (pins("gpu")["torchvision"], pins("gpu")["torch"]) == ("0.28.0", "2.13.0")


def test_dev_adds_all_that_tests_need_to_either_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in ("cpu", "gpu"):
        there = {*pins(name), *pins("dev")}
        assert {normal(requirement) for requirement in project["optional-dependencies"]["dev"]} <= there
        assert "pluggy" in there
