"""The quick look at the machine that every `make` target begins with."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "requirements" / "setup.sh"
ENOUGH = "Filesystem 1024-blocks Used Available Capacity Mounted\nx 1 1 99999999 1% /"


@pytest.fixture
def check(tmp_path):
    """Runs the check where only these programs exist, with a `df` that prints `disk`."""

    def run(disk: str, compiler: bool) -> subprocess.CompletedProcess:
        for name in ("bash", "dirname", "awk", "env", "cat"):
            if not (tmp_path / name).exists():
                (tmp_path / name).symlink_to(os.path.realpath(shutil.which(name)))
        programs = {"df": f"#!/usr/bin/env bash\ncat <<'END'\n{disk}\nEND\n"}
        if compiler:
            programs["g++"] = "#!/usr/bin/env bash\n"
        for name, text in programs.items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        command = [str(tmp_path / "bash"), str(SCRIPT), "check"]
        return subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=20)

    return run


def test_a_machine_that_suffices_is_passed_in_silence(check):
    done = check(ENOUGH, compiler=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_compiler_is_refused_with_a_remedy(check):
    done = check(ENOUGH, compiler=False)
    assert done.returncode == 1 and "no C++ compiler" in done.stderr and "apt install g++" in done.stderr


def test_a_full_disk_is_refused_with_what_is_needed(check):
    done = check(ENOUGH.replace("99999999", "1048576"), compiler=True)
    assert done.returncode == 1 and "1 GB are free here and runs and tests need 4 GB." in done.stderr
