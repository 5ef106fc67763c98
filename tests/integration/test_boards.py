"""Every query of the dashboard, asked of a real Prometheus server that scrapes a real run with scripted engines."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMETHEUS = shutil.which("prometheus")
WAIT_S = 60
CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
- job_name: ray
  static_configs: [{{targets: ["{target}"]}}]
"""
# Panels that have nothing to show where engines are scripted: vLLM reports these, and there is none.
OF_VLLM = "vLLM: "

pytestmark = [
    pytest.mark.skipif(PROMETHEUS is None, reason="no `prometheus` on PATH (Debian: apt-get install prometheus)"),
    pytest.mark.timeout(280),
]


def renderer():
    spec = importlib.util.spec_from_file_location("render", ROOT / "cluster" / "grafana" / "render.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """A server that has watched a whole run: (its address, when the run began, when it ended)."""
    folder = tmp_path_factory.mktemp("watched")
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    command = [sys.executable, str(ROOT / "tests" / "watched_run.py"), str(folder / "run"), str(folder / "faults"), "5"]
    began = time.time()
    with open(folder / "run.log", "wb") as log:
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "PYTHONPATH": paths})
    server = None
    try:
        assert run.stdout is not None
        first = run.stdout.readline()
        assert first, (folder / "run.log").read_text()[-3000:]
        (folder / "prometheus.yml").write_text(CONFIG.format(target=json.loads(first)["metrics"]))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        settings = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        command = [str(PROMETHEUS), *settings, f"--web.listen-address={address}", "--log.level=error"]
        with open(folder / "prometheus.log", "wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
        until_ready(f"http://{address}/-/ready")
        run.stdout.read()
        assert run.wait(WAIT_S) == 0, (folder / "run.log").read_text()[-3000:]
        yield f"http://{address}", began, time.time()
    finally:
        for process in filter(None, (run, server)):
            process.terminate()
            process.wait(WAIT_S)


def until_ready(url: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.2)


def test_every_query_of_the_dashboard_gives_figures(prometheus):
    server, began, ended = prometheus
    render, empty = renderer(), []
    for panels in render.rows(json.loads(render.BOARD.read_text())).values():
        for panel in panels:
            for target in panel["targets"]:
                found = render.series(server, target, began, ended, rate_s=10)
                if not found and not panel["title"].startswith(OF_VLLM):
                    empty.append(f"{panel['title']}: {target['expr']}")
    assert not empty, "\n".join(empty)


def test_the_figures_are_those_of_the_run(prometheus):
    server, began, ended = prometheus
    render = renderer()

    def last(expr: str) -> dict[str, float]:
        target = {"expr": expr, "legendFormat": "{{kind}}{{split}}{{model}}{{SessionName}}"}
        return {label: points[-1][1] for label, points in render.series(server, target, began, ended, 10).items()}

    assert last("sum by (kind) (ray_bohdi_failures_total)") == {"engine_replaced": 1}
    assert set(last("sum by (split) (ray_bohdi_samples_accepted_total)")) == {"train", "heldout"}
    assert last("sum by (model) (ray_bohdi_replicas_wanted)") == dict.fromkeys(("ada", "bob", "cyd", "target"), 1)
    assert [name.startswith("session_") for name in last("sum by (SessionName) (ray_bohdi_up)")] == [True]


def test_the_variables_find_session_and_run(prometheus):
    server, began, ended = prometheus
    render = renderer()
    found = render.ask(server, "series", **{"match[]": "ray_bohdi_up", "start": began, "end": ended})
    assert {one["run"] for one in found} == {"run"}
    assert len({one["SessionName"] for one in found}) == 1


def test_the_panels_can_be_drawn(prometheus, tmp_path):
    server, began, ended = prometheus
    renderer().draw(server, ["The run", "Harvest"], began, ended, 10, tmp_path / "board.png")
    assert (tmp_path / "board.png").read_bytes().startswith(b"\x89PNG")
