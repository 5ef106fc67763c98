"""docs/observability.md shows the table of metrics as the code has it."""

from __future__ import annotations

from pathlib import Path

from bohdi_ray.observe.metric_names import ALL, MOST_DOMAINS, MetricSpec

PAGE = Path(__file__).parents[3] / "docs" / "observability.md"


def row(spec: MetricSpec) -> str:
    labels = ", ".join(f"`{label}`" for label in spec.labels) or "-"
    return f"| `{spec.exported}` | {spec.kind} | {spec.unit} | {labels} | {spec.help} |"


def test_the_page_has_every_metric_and_no_other():
    text = PAGE.read_text("utf-8")
    assert [line for line in text.splitlines() if line.startswith("| `ray_bohdi_")] == [row(spec) for spec in ALL]
    assert f"Only the {MOST_DOMAINS} main domains" in text
