from pathlib import Path

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.docs import render

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text("utf-8") == render(), "run `make docs`"


def test_every_field_has_words():
    rows = [line for line in render().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert all(line.rstrip(" |").count("|") >= 3 and len(line.split("|")[-2].strip()) > 3 for line in rows)


def test_every_section_is_on_the_page():
    page = render()
    assert all(f"| `{name}` |" in page for name in FusionConfig.model_fields)
