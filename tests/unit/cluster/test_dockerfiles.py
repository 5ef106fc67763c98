"""The Dockerfiles: hadolint's rules, that what they name is there, and what an image of ours must not do."""

import fnmatch
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from recipe_files import ROOT, pins

LOCKS = {"Dockerfile": "gpu", "Dockerfile.cpu": "cpu"}
TOOLS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def replay():
    spec = importlib.util.spec_from_file_location("replay_dockerfile", ROOT / "cluster/replay_dockerfile.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=LOCKS)
def name(request):
    return request.param


@pytest.fixture
def steps(replay, name):
    return replay.steps((ROOT / "cluster" / name).read_text())


def named(steps, instruction):
    return [step.rest for step in steps if step.name == instruction]


def test_steps_are_read_as_docker_reads_them(replay):
    text = "# c\nFROM a:1\n\nRUN b \\\n    # within\n    && c\nENV D=e\n"
    assert [(s.name, s.rest, s.line) for s in replay.steps(text)] == [
        ("FROM", "a:1", 2),
        ("RUN", "b && c", 4),
        ("ENV", "D=e", 7),
    ]


def test_hadolint_has_nothing_to_say(name):
    done = subprocess.run([TOOLS / "hadolint", ROOT / "cluster" / name], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_base_has_a_fixed_tag(steps):
    (base,) = named(steps, "FROM")
    assert re.fullmatch(r"[a-z0-9./-]+:[a-z0-9.-]*\d{2}[a-z0-9.-]*", base) and "latest" not in base


def test_what_is_copied_exists_and_reaches_the_builder(steps, name):
    lines = (ROOT / "cluster" / f"{name}.dockerignore").read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    sources = [source for rest in named(steps, "COPY") for source in rest.split()[:-1]]
    assert "bohdi_ray" in sources and f"requirements/{LOCKS[name]}.txt" in sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), source


def test_packages_come_from_the_lock_and_from_nowhere_else(steps, name):
    installs = re.findall(r"pip install ([^&]+)", " && ".join(named(steps, "RUN")))
    arguments = [set(install.split()) for install in installs]
    assert all({"--no-cache-dir", "--no-deps"} <= given for given in arguments)
    what = [{word for word in given if not word.startswith("-")} for given in arguments]
    assert what == [{f"/opt/bohdi_ray/requirements/{LOCKS[name]}.txt"}, {"/opt/bohdi_ray"}]
    # An address of an index would be one that others cannot reach, or a secret.
    assert "index" not in (ROOT / "cluster" / name).read_text().replace("/etc/pip.conf", "")


def test_nothing_in_an_image_runs_as_root_or_without_a_token(steps):
    assert named(steps, "USER") == ["1000"]
    order = [step.name for step in steps]
    assert order.index("USER") > max(i for i, n in enumerate(order) if n == "RUN") and order[-1] == "CMD"
    assert any("RAY_AUTH_MODE=token" in rest for rest in named(steps, "ENV"))


def test_an_image_holds_no_secret(steps):
    text = " ".join(step.rest for step in steps if step.name in ("ENV", "ARG", "COPY", "RUN"))
    assert not re.search(r"(?i)(password|api_key|secret_key|auth_token)\s*=", text)
    # The build's pip.conf may hold one; it is mounted for one step and is in no layer.
    assert text.count("/etc/pip.conf") == text.count("--mount=type=secret,id=pip,target=/etc/pip.conf") == 1


def test_the_python_of_the_image_is_one_the_project_takes_and_cuda_that_of_the_lock(steps, name):
    (base,) = named(steps, "FROM")
    pythons = set(re.findall(r"python(3\.\d+)", " ".join(named(steps, "RUN"))))
    assert len(pythons) == 1 and pythons <= {"3.11", "3.12"}
    if name == "Dockerfile":
        runtime = pins("gpu")["nvidia-cuda-runtime"].split(".")[:2]
        assert re.search(r"cuda:(\d+)\.(\d+)\.", base).groups() == tuple(runtime)


def test_shellcheck_has_nothing_to_say():
    scripts = [ROOT / "cluster/slurm/bohdi.sbatch", *sorted(ROOT.glob("**/*.sh"))]
    scripts = [script for script in scripts if ".venv" not in script.parts]
    done = subprocess.run([TOOLS / "shellcheck", *scripts], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
