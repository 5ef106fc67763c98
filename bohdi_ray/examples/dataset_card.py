"""The README.md of an exported data set, computed from the run. Pure; it states facts and never guesses a licence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from bohdi_ray.config import FusionConfig, JudgeSection, OpenAIModel, VllmModel
from bohdi_ray.config.addresses import is_written_as_path
from bohdi_ray.config.kinds.by_kind import own_settings
from bohdi_ray.config.kinds.questions import CorpusQuestions

_SHAPES = {
    "sft": "`messages`: the question as user, the best answer as assistant.",
    "preference": "`prompt`, `chosen` and `rejected`, each a list of messages. `pair` says which answers were paired: "
    "`best_worst` the best against the worst eligible one, `source_target` a source's winning answer against the "
    "target's.",
}


def dataset_card(
    config: FusionConfig,
    environment: Mapping[str, Any],
    format: str,
    min_margin: float,
    rows: Mapping[str, int],
    left_out: Mapping[str, int],
) -> str:
    """Markdown with the YAML head that lets `datasets.load_dataset` find the files. `rows` counts rows by split."""
    corpus = config.questions if isinstance(config.questions, CorpusQuestions) else None
    header = {
        "configs": [
            # All configs of a folder are read by one reader, so the JSONL files cannot be a second one.
            {"config_name": "default", "data_files": [{"split": split, "path": f"{split}.parquet"} for split in rows]}
        ],
        "tags": [*([] if corpus else ["synthetic"]), format, "bohdi_ray"],
    }
    lines = [
        "---",
        yaml.safe_dump(header, sort_keys=False).strip(),
        "---",
        "",
        "# Samples of a fusion with bohdi_ray",
        "",
        _AUTHORS["corpus" if corpus else "asked"] + _SHAPES[format],
        "",
        "`margin` is the lead of the better answer in the judge's scores, `num_eligible` how many answers were "
        "compared: with one it is 0. No value is null.",
        "",
        *_section("Rows", [("split", "rows"), *((split, str(count)) for split, count in rows.items())]),
        *_section(
            "Models", [("model", "role", "where from", "revision", "temperature"), *map(_model_row, _models(config))]
        ),
        *_section("How samples were made", [("setting", "value"), *_settings(config, environment)]),
        *_section("Filters", [("filter", "value"), *_filters(config, min_margin)]),
    ]
    if left_out:
        counts = [(reason, str(count)) for reason, count in sorted(left_out.items())]
        lines += _section("Left out of this export", [("reason", "samples or pairs"), *counts])
    files = "The licence of the files that the prompts come from applies to the prompts. " if corpus else ""
    lines += [
        "## Licence",
        "",
        f"None is stated here. {files}The licences and terms of use of every model in the table apply to what it "
        "wrote, and some restrict training other models on it: check them before you publish or train.",
        "",
    ]
    return "\n".join(lines)


_AUTHORS = {
    "asked": "Domains, questions and answers were all written by language models; no person has checked them. ",
    "corpus": "Prompts and domains come from files that the run was given; the answers were written by language "
    "models, and no person has checked them. ",
}


def _section(title: str, rows: list[tuple[str, ...]]) -> list[str]:
    head, *body = [[_cell(cell) for cell in row] for row in rows]
    table = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]
    return [f"## {title}", "", *table, ""]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _models(config: FusionConfig) -> list[tuple[str, VllmModel | OpenAIModel]]:
    return [*(("source", source) for source in config.sources), ("target", config.target)]


def _model_row(entry: tuple[str, VllmModel | OpenAIModel]) -> tuple[str, ...]:
    role, model = entry
    if isinstance(model, OpenAIModel):
        return model.name, role, f"{model.model} (remote)", "unknown", str(model.temperature)
    # A local folder's path says nothing to readers and may name its owner: only its last part is shown.
    local = is_written_as_path(model.model)
    origin = f"local folder {model.model.rstrip('/').rsplit('/', 1)[-1]}" if local else model.model
    return model.name, role, origin, model.revision or "not pinned", str(model.temperature)


def _settings(config: FusionConfig, environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    judge = own_settings(config.judge, JudgeSection)
    return [
        ("bohdi_ray", str(environment.get("bohdi_ray", "unknown"))),
        ("seed", str(config.seed)),
        ("depth of the domain tree", str(config.tree.depth)),
        ("judge", ", ".join([config.judge.kind, *(f"{name} {value}" for name, value in judge.items())])),
        ("harvests per round", f"{config.meditation.steps} x {config.meditation.walks_per_step}"),
        _origin(config),
        ("own prompt templates", "yes" if config.harvest.prompts else "no"),
    ]


def _origin(config: FusionConfig) -> tuple[str, str]:
    """Where the questions come from; of files the names alone, for paths may name their owner."""
    if isinstance(config.questions, CorpusQuestions):
        return "prompts from", "; ".join(file.rpartition("/")[2] for file in config.questions.files)
    return "styles of questions", "; ".join(config.harvest.styles)


def _filters(config: FusionConfig, min_margin: float) -> list[tuple[str, str]]:
    weighted = "letters' worth (an ideograph counts 3, kana and Hangul 2)"
    unit = weighted if config.harvest.length_unit == "weighted" else "characters"
    corpus = isinstance(config.questions, CorpusQuestions)
    return [
        *([] if corpus else [("question longer than", f"{config.harvest.min_question_chars} {unit}")]),
        ("answer longer than", f"{config.harvest.min_answer_chars} {unit}"),
        ("answers never used", "truncated, repetitive or refusing ones"),
        ("same question twice in a domain", "removed"),
        ("share held out", str(config.harvest.heldout_fraction)),
        ("min_margin of this export", str(min_margin)),
    ]
