"""Resolve requirements/NAME.in and write requirements/NAME.txt with every version pinned.

The locks are complete, so they are installed with `pip install --no-deps -r`. That leaves out three packages which
vLLM asks for and its text path never imports: their wheels are CUDA builds that break `import transformers` beside a
CPU torch. dev.txt holds only what cpu.txt does not hold already.

Usage: python requirements/lock.py cpu gpu dev
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec"}
# What pip itself brings into every venv.
NOT_OURS = {"pip", "setuptools"}


def resolve(name: str) -> dict[str, str]:
    """Versions by normalised package name that pip would install for NAME.in into an empty environment."""
    inputs = ["-r", str(HERE / f"{name}.in")]
    if name == "dev":
        inputs += ["-c", str(HERE / "cpu.txt")]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "--report", str(report), *inputs], check=True)
        installs = json.loads(report.read_text())["install"]
    pins = {}
    for item in installs:
        normal = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        # A local label ("+cpu") names one index's build; the version alone is portable.
        pins[normal] = item["metadata"]["version"].split("+")[0]
    return pins


def main(names: list[str]) -> None:
    for name in names:
        pins = {package: version for package, version in resolve(name).items() if package not in LEFT_OUT}
        if name == "dev":
            locked = {line.split("==")[0] for line in (HERE / "cpu.txt").read_text().splitlines() if "==" in line}
            pins = {package: version for package, version in pins.items() if package not in locked}
        else:
            pins = {package: version for package, version in pins.items() if package not in NOT_OURS - {"setuptools"}}
        lines = [f"{package}=={version}" for package, version in sorted(pins.items())]
        header = f"# Made by `make lock` from {name}.in; install with: pip install --no-deps -r requirements/{name}.txt"
        (HERE / f"{name}.txt").write_text("\n".join([header, *lines]) + "\n")
        sys.stderr.write(f"{name}.txt: {len(lines)} packages\n")


if __name__ == "__main__":
    main(sys.argv[1:] or ["cpu", "gpu", "dev"])
