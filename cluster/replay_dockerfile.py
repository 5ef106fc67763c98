"""Replay a Dockerfile's steps in a clean root folder, for machines without a container engine. Needs root and chroot.

Usage: python cluster/replay_dockerfile.py cluster/Dockerfile.cpu ROOT [--bind FOLDER]... [--file TARGET=SOURCE]...

ROOT holds what FROM names (for Debian: `debootstrap --variant=minbase bookworm ROOT`). COPY takes from the working
directory, RUN runs under chroot as the step's user. --bind shows a folder of this machine inside, at the same path;
--file copies one, such as the pip.conf that a build would mount as a secret. Layers, caches and .dockerignore are not
played; what a step leaves in ROOT is what the image would hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: its name in capitals, and what follows it with continued lines joined."""

    name: str
    rest: str
    line: int


def steps(text: str) -> list[Step]:
    """The instructions of a Dockerfile, comments left out. Here-documents are not known."""
    found, parts, begun = [], [], 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (not parts and not line.strip()):
            continue
        begun = begun if parts else number
        parts.append(line.strip().removesuffix("\\").rstrip())
        if not line.rstrip().endswith("\\"):
            name, _, rest = " ".join(parts).partition(" ")
            found.append(Step(name.upper(), rest.strip(), begun))
            parts = []
    return found


@dataclass
class Replay:
    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0"
    folder: str = "/"

    def play(self, step: Step) -> None:
        handler = getattr(self, f"_{step.name.lower()}", None)
        if handler is None:
            raise SystemExit(f"line {step.line}: {step.name} cannot be replayed")
        handler(step.rest)

    def _from(self, rest: str) -> None:
        if not (self.root / "bin/sh").exists():
            raise SystemExit(f"{self.root} holds no system; make it what {rest} is")

    def _copy(self, rest: str) -> None:
        *sources, target = rest.split()
        for source in map(Path, sources):
            place = self.root / target.lstrip("/")
            if source.is_dir():
                shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place = place / source.name if target.endswith("/") else place
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, place)

    def _env(self, rest: str) -> None:
        for name, value in re.findall(r"(\w+)=(\S+)", rest):
            self.environment[name] = re.sub(r"\$(\w+)", lambda m: self.environment.get(m[1], ""), value)

    def _user(self, rest: str) -> None:
        self.user = rest

    def _workdir(self, rest: str) -> None:
        self.folder = rest
        (self.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _run(self, rest: str) -> None:
        self._chroot(["/bin/sh", "-c", re.sub(r"--mount=\S+\s*", "", rest)])

    def _cmd(self, rest: str) -> None:
        self._chroot(json.loads(rest))

    def _chroot(self, command: list[str]) -> None:
        environment = {"HOME": "/root" if self.user == "0" else "/home/bohdi", **self.environment}
        variables = [f"{name}={value}" for name, value in environment.items()]
        inside = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', self.folder, *command]
        who = [f"--userspec={self.user}:{self.user}", str(self.root)]
        subprocess.run(["chroot", *who, "/usr/bin/env", "-i", *variables, *inside], check=True)


@contextlib.contextmanager
def bound(root: Path, folders: list[str]) -> Iterator[None]:
    """Folders of this machine are seen inside `root` meanwhile."""
    done = []
    try:
        for folder in ["/proc", "/dev", *folders]:
            place = root / folder.lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--bind", folder, str(place)], check=True)
            done.append(place)
            if folder in folders:  # not to be emptied with the root by somebody who cleans up
                subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        yield
    finally:
        for place in reversed(done):
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("--bind", action="append", default=[])
    parser.add_argument("--file", action="append", default=[])
    given = parser.parse_args()
    system = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    replay = Replay(given.root.resolve(), system)
    for pair in given.file:
        target, _, source = pair.partition("=")
        (replay.root / target.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, replay.root / target.lstrip("/"))
    with bound(replay.root, given.bind):
        for step in steps(given.dockerfile.read_text("utf-8")):
            begun = time.monotonic()
            sys.stderr.write(f"{step.line}: {step.name} {step.rest[:90]}\n")
            replay.play(step)
            sys.stderr.write(f"    {time.monotonic() - begun:.0f} s\n")


if __name__ == "__main__":
    main()
