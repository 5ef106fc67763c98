"""What Ray's agents tell Prometheus: their metrics pages, read as samples."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass

LINE = re.compile(r"(\w+)\{(.*)\} (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Sample:
    """One line of Prometheus' text format."""

    name: str
    labels: dict[str, str]
    value: float


def scraped() -> list[Sample]:
    """The pages of all nodes of the cluster that this process has joined."""
    import ray

    found = []
    for node in ray.nodes():
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as page:
            text = page.read().decode()
        for match in filter(None, map(LINE.fullmatch, text.splitlines())):
            name, labels, value = match.groups()
            found.append(Sample(name, dict(LABEL.findall(labels)), float(value)))
    return found
