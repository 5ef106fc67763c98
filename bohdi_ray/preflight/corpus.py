"""The corpus of `questions.kind: corpus`: all rows are read once and counted, some are rendered and measured in tokens.
Part of the preflight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bohdi_ray.config import FusionConfig, VllmModel
from bohdi_ray.config.kinds.questions import CorpusQuestions
from bohdi_ray.engines.chat.prompt_length import TokenCounter
from bohdi_ray.engines.chat.template_trial import shape_of
from bohdi_ray.engines.chat.turns import Turn, conversation
from bohdi_ray.errors import BohdiError, ConfigError, RunDirError, StorageFailed
from bohdi_ray.preflight.cards import hosted_models
from bohdi_ray.preflight.findings import Findings
from bohdi_ray.preflight.templates import template_for, template_kwargs
from bohdi_ray.questions.rows.index import CorpusIndex
from bohdi_ray.questions.rows.reader import RowReader
from bohdi_ray.questions.rows.stored import check_unchanged, counted_index
from bohdi_ray.randomness import generator
from bohdi_ray.run.filesystem import place_of

MEASURED = 1000  # rows, drawn by the run's seed
SHOWN_LEAVES = 8
TALK = (Turn("user", "Bohdi-4a1f"), Turn("assistant", "Bohdi-8c2e"), Turn("user", "Bohdi-5d7b"))
Rendered = Callable[[str], str]


def check_corpus(config: FusionConfig, findings: Findings, resume: bool) -> None:
    """Refuses a corpus that a run could not work with, or that changed since the run began; counts its rows. Call it
    after the models are checked."""
    questions = config.questions
    if not isinstance(questions, CorpusQuestions):
        return
    try:
        index = counted_index(questions)
        if resume:
            check_unchanged(index, place_of(config.run_dir))
    except ConfigError as error:
        findings.problems.append(error)
        return
    except (StorageFailed, RunDirError) as error:
        findings.refuse("questions.files", questions.files, str(error), "Make the files readable.")
        return
    findings.corpus += counts(index, questions.epochs)
    prompts = [] if index.needs_copies else _measured(config, questions, index)
    for at, model in hosted_models(config).items():
        if (rendered := _rendering(model)) is None:
            continue
        if index.num_conversations and not _keeps_turns(rendered):
            rule = f"its chat template loses the earlier turns of a conversation, and {index.num_conversations:,} rows "
            remedy = "Take rows with a single turn, or another template: chat_template.jinja in the model's folder."
            findings.refuse(f"{at}.model", model.model, f"{rule}are conversations", remedy)
        elif prompts:
            findings.corpus += _too_long(config, findings, model, rendered, prompts)
    _check_length_of_run(config, index.num_rows * questions.epochs, findings)


def counts(index: CorpusIndex, epochs: int) -> list[str]:
    """What was counted, as lines."""
    sizes = sorted(index.rows_by_leaf.items(), key=lambda pair: -pair[1])
    files, leaves = _number(len(index.files), "file"), _number(len(sizes), "leaf", "leaves")
    many = f", each up to {epochs} times" if epochs > 1 else ""
    lines = [f"{_number(index.num_rows, 'row')} of {files} in {leaves}{many}"]
    lines += [f"    {' / '.join(leaf)}: {count:,}" for leaf, count in sizes[:SHOWN_LEAVES]]
    if len(sizes) > SHOWN_LEAVES:
        lines.append(f"    and {len(sizes) - SHOWN_LEAVES:,} more, the smallest with {sizes[-1][1]:,}")
    if index.num_conversations:
        lines.append(f"{_number(index.num_conversations, 'row')} with several turns")
    if index.num_repeated:
        lines.append(f"{_number(index.num_repeated, 'row')} of a document that an earlier row has")
    if index.unusable:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(index.unusable.items()))
        lines.append(f"{_number(sum(index.unusable.values()), 'further row')} not used: {reasons}")
    return lines


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _rendering(model: VllmModel) -> Rendered | None:
    """The prompt of an answer as the model's engine reads it; None if its folder is not here, or is refused anyway."""
    kwargs = template_kwargs(model, "answer")
    try:
        render = template_for(Path(model.model))
        shape = shape_of(render, kwargs)
    except (BohdiError, OSError):
        return None

    def rendered(prompt: str) -> str:
        return render(shape.messages(model.system_prompt, prompt), add_generation_prompt=True, **kwargs)

    return rendered


def _keeps_turns(rendered: Rendered) -> bool:
    try:
        text = rendered(conversation(TALK))
    except Exception:  # a template is a program of strangers
        return False
    return all(turn.text in text for turn in TALK)


def _measured(config: FusionConfig, questions: CorpusQuestions, index: CorpusIndex) -> list[str]:
    rng = generator(config.seed, "measured rows")
    numbers = sorted(rng.choice(index.num_rows, min(MEASURED, index.num_rows), replace=False).tolist())
    reader = RowReader(questions, index)
    return [reader.prompt(index.address_of(number)) for number in numbers]


def _too_long(
    config: FusionConfig, findings: Findings, model: VllmModel, rendered: Rendered, prompts: Sequence[str]
) -> list[str]:
    """How many of the measured rows leave no room for an answer in the model's window, or in a training row."""
    size = findings.sizes.get(model.name)
    window = model.engine.max_model_len if size is None else size.window_of(model)
    answer = model.sampling_of("answer").max_tokens or 0
    limits = (
        [] if window is None else [(window - answer, f"a whole answer in {model.name}'s window of {window} tokens")]
    )
    if model is config.target:
        shortest = min(config.training.at(first).max_length for first in config.first_rounds)
        limits.append((shortest, f"an answer in training.max_length, {shortest} tokens"))
    texts, counter = _all_rendered(rendered, prompts), TokenCounter(Path(model.model))
    lines = []
    for limit, what in limits:
        share = sum(text is None or not counter.fits(text, limit) for text in texts) / len(texts)
        lines += [f"about {share:.1%} of the rows leave no room for {what} ({len(texts):,} measured)"] if share else []
    return lines


def _all_rendered(rendered: Rendered, prompts: Sequence[str]) -> list[str | None]:
    texts: list[str | None] = []
    for prompt in prompts:
        try:
            texts.append(rendered(prompt))
        except Exception:  # the template refuses this prompt, as the engine will
            texts.append(None)
    return texts


def _check_length_of_run(config: FusionConfig, drawable: int, findings: Findings) -> None:
    rounds = -(-drawable // config.walks_per_round)
    if rounds >= config.stop.rounds:
        return
    advice = f"all rows are drawn after {_number(rounds, 'round')}, and stop.rounds is {config.stop.rounds}"
    if config.training.schedule.kind != "constant":
        advice += f"; the learning rate's schedule is made for {config.stop.rounds}: set stop.rounds={rounds}"
    findings.advice.append(advice)
