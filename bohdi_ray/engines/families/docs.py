"""Writes docs/models.md from the table of families, so that page and code always agree.

Usage: python -m bohdi_ray.engines.families.docs docs/models.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from bohdi_ray.engines.families.family import Family
from bohdi_ray.engines.families.lookup import family_of
from bohdi_ray.engines.families.table import FAMILIES

HEAD = """\
# Models

Written by `python -m bohdi_ray.engines.families.docs docs/models.md` (`make docs`) from the table of families,
`bohdi_ray/engines/families/table.py`. Do not edit.

A model is known by `model_type` in its config.json, and where several families share one by its chat template. A
family that is not listed is treated as a plain decoder with rotary positions. Whatever can be tried on a model is tried
before anything starts: its chat template (text must come out again, with the system prompt and as an answer) and its
tokenizer (it must give the ids that its tokenizer.json gives).

- **tiny checkpoint**: the tests have a checkpoint of half a million random parameters with the family's real
  configuration class, the files its publisher has and a chat template of its shape. As a source it is to start under
  vLLM's CPU build, answer, be asked for labels and score a given answer (`tests/real/test_family_sources.py`); as a
  target it is trained, published, exported and loaded again (`tests/real/test_target_families.py`), and reloaded by an
  engine in place (`tests/real/test_target_reload.py`). `make test` runs this by kind; the whole matrix is in
  `make test-long`. It says that the machinery fits, and nothing about quality.
- **unproved here**: vLLM's CPU build cannot run it. `bohdi plan` and engines refuse it on a CPU with these words. On
  GPUs it starts as any other model does, but no GPU was there to try it.
- **not tried**: nothing is known to be in the way.

As a target, a model of several modalities is trained as its language model alone. Quantized weights cannot be trained;
those published in MXFP4 are read as bfloat16.

| family | models | as a source | as a target | thinking | what is special |
|---|---|---|---|---|---|
"""
FOLDERS = (
    (
        "Mistral's own files (`consolidated*.safetensors`, `params.json`, `tekken.json`, `tokenizer.model.v*`) beside "
        "Hugging Face's",
        "Hugging Face's configuration, weights and tokenizer are read; `engine.extra` has the last word "
        "(`tokenizer_mode`, `config_format`, `load_format`)",
    ),
    (
        "`tekken.json` and no other tokenizer",
        "it is converted; the chat template is the folder's, else the one that Mistral's own rules give",
    ),
    ("Mistral's own files alone, without config.json", "refused"),
    (
        "a chat template in any of its places",
        "the first of: chat_template.jinja, tokenizer_config.json (a text, or the one named `default`), "
        "chat_template.json",
    ),
    ("a template that takes content only as a list of parts", "it is given a list of parts"),
    (
        "a template without a system role, or that drops the system prompt once an answer follows",
        "the system prompt opens the user turn",
    ),
    ("a template from which a question does not come out", "refused, as a source and as a target"),
    ("a template from which an answer does not come out", "refused as a target"),
    (
        "a tokenizer class in tokenizer_config.json that does not give the ids tokenizer.json gives",
        "tokenizer.json is taken as it is",
    ),
    ("a processor, encoders of images or sound", "not read: vLLM runs the language model only"),
)


def page() -> str:
    """The whole page."""
    folders = "".join(f"| {what} | {happens} |\n" for what, happens in FOLDERS)
    head = "\n## Folders and their files\n\n| what is in the folder | what happens |\n|---|---|\n"
    return HEAD + "".join(_row(family) for family in FAMILIES) + head + folders


def _row(family: Family) -> str:
    models = ", ".join(family.examples) or f"model_type {', '.join(family.model_types)}"
    cells = (family.name, models, _as_source(family), _as_target(family), _thinking(family), "; ".join(family.notes))
    return f"| {' | '.join(cells)} |\n"


def _as_source(family: Family) -> str:
    if family.unproved_on_cpu is not None:
        return f"unproved here: {family.unproved_on_cpu}"
    return "tiny checkpoint" if family.tiny else "not tried"


def _as_target(family: Family) -> str:
    if family.refused_as_target is not None:
        return f"refused: {family.refused_as_target}"
    what = f"its language model ({family.text_tower})" if family.text_tower else "yes"
    served = family_of({"model_type": family.text_tower}) if family.text_tower else family
    tried = "tiny checkpoint" if family.tiny else "not tried"
    if family.tiny and served is not None and served.unproved_on_cpu is not None:
        tried += " but for the engine"
    return f"{what}, {tried}"


def _thinking(family: Family) -> str:
    thinking = family.thinking
    if thinking is None:
        return ""
    switch = f", switch `{thinking.switch}`" if thinking.switch else ""
    return f"`{thinking.start}` … `{thinking.end}`{switch}".replace("|", "\\|")


def main(path: str) -> None:
    Path(path).write_text(page(), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
