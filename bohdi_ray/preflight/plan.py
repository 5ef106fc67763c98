"""`bohdi plan`: describes a run as text. Pure: takes the results of the preflight, returns lines."""

from __future__ import annotations

from collections.abc import Sequence

from bohdi_ray.config import BanditSection, FusionConfig, OpenAIModel, TrainingConfig, VllmModel
from bohdi_ray.config.kinds.by_kind import own_settings
from bohdi_ray.config.presets import changed_settings
from bohdi_ray.placement.capacity import Node
from bohdi_ray.placement.memory.engine_settings import all_with_last_words
from bohdi_ray.placement.memory.estimate import Estimate, estimates
from bohdi_ray.placement.memory.training_memory import checkpoint_disk
from bohdi_ray.placement.placement import bundles, bundles_to_grow, place, resolve_gpus
from bohdi_ray.preflight import Findings
from bohdi_ray.preflight.shared_cards import sharing_lines


def plan_text(config: FusionConfig, findings: Findings, nodes: Sequence[Node] | None) -> str:
    """The whole plan. `nodes` is where the run would be placed; None if not known."""
    has_gpus = any(node.num_gpus for node in nodes) if nodes is not None else asks_for_gpus(config)
    resolved = all_with_last_words(resolve_gpus(config, has_gpus))
    sections = [
        ("Run", _run_lines(resolved, findings)),
        ("Models", [line for model in (*resolved.sources, resolved.target) for line in _model_lines(resolved, model)]),
        ("Corpus", findings.corpus),
        ("Needed", _needed_lines(resolved)),
        ("Placement", _placement_lines(resolved, nodes)),
        ("Memory (estimates)", _memory_lines(resolved, findings, nodes)),
        ("Hub", findings.hub),
        ("Worth a second look", findings.advice),
        ("Disk (estimate)", _disk_lines(resolved, findings)),
        ("Could not be checked", findings.notes),
        ("Wrong", [str(problem) for problem in findings.problems]),
    ]
    blocks = ["\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in sections if lines]
    return "\n\n".join([*blocks, _verdict(findings)])


def _verdict(findings: Findings) -> str:
    """The last line. It must be clear that what was not checked is not known to be right."""
    if findings.problems:
        return "Refused: see above."
    if findings.unchecked:
        models = "1 model was" if len(findings.unchecked) == 1 else f"{len(findings.unchecked)} models were"
        return f"Not known to be right: {models} not checked. What was checked has no known fault."
    if findings.notes:
        return "What was checked has no known fault; not all could be checked: see above."
    return "Nothing is known to be wrong."


def asks_for_gpus(config: FusionConfig) -> bool:
    """Whether the configuration explicitly asks for GPUs."""
    return any(bundle.num_gpus for bundle in bundles(resolve_gpus(config, cluster_has_gpus=False)))


def _run_lines(config: FusionConfig, findings: Findings) -> list[str]:
    meditation, enlightenment, harvest, training = (
        config.meditation,
        config.enlightenment,
        config.harvest,
        config.training,
    )
    placement = ", placement colocate" if config.colocates else ""
    staleness = f"max_staleness {harvest.max_staleness}, step_lag {harvest.step_lag}"
    changed = changed_settings(config)
    shown = ", ".join(changed[:6]) + (f" and {len(changed) - 6} more" if len(changed) > 6 else "")
    each_once = f"each of a round's samples {enlightenment.epochs} x, at most {config.rows_per_round}"
    drawn = f"{enlightenment.steps} x {enlightenment.rows_per_step}"
    rows = each_once if enlightenment.rows == "each_once" else drawn
    settings = "".join(f", {name} {value:g}" for name, value in own_settings(config.bandit, BanditSection).items())
    return [
        f"run_dir      {config.run_dir}   seed {config.seed}",
        f"preset       {config.preset or 'none'}" + (f", but for {shown}" if changed else ""),
        f"rounds       up to {config.stop.rounds}, {staleness}{placement}",
        f"harvest      {meditation.steps} x {meditation.walks_per_step} walks a round, tree of depth "
        f"{config.tree.depth}, {config.bandit.kind}{settings}, "
        f"judge {config.judge.kind}, {harvest.heldout_fraction:.0%} held out",
        f"training     {rows} rows a round, {_batch_and_rate(training)}, {training.dtype}, "
        f"{training.num_workers} worker{'s' if training.num_workers > 1 else ''}",
        *_stage_lines(config),
        f"attention    {findings.attention or 'by the target, whose files are not here'}",
    ]


def _batch_and_rate(training: TrainingConfig) -> str:
    if training.stages:
        return f"{len(training.stages)} stages"
    return f"global batch {training.global_batch_size}, learning rate {training.learning_rate:g}"


def _stage_lines(config: FusionConfig) -> list[str]:
    training, spans = config.training, config.training.spans(config.stop.rounds)
    return [
        f"    stage {number}  rounds {first} to {first + num - 1}: {training.at(first).objective.kind}, "
        f"{_batch_and_rate(training.at(first))}, up to {config.most_steps_of_stage(first)} steps"
        for number, (first, num) in enumerate(spans if training.stages else ())
    ]


def _model_lines(config: FusionConfig, model: VllmModel | OpenAIModel) -> list[str]:
    role = "target" if model is config.target else "source"
    lines = [f"{role} {model.name}: {model.model}, temperature {model.temperature:g}"]
    if isinstance(model, VllmModel):
        engine = model.engine
        window = f"{engine.max_model_len} tokens" if engine.max_model_len else "the model's own window"
        split = f"tensor {engine.tensor_parallel_size} x pipeline {engine.pipeline_parallel_size}"
        engines = f"{model.replicas} engine{'s' if model.replicas.max > 1 else ''}"
        lines.append(f"    {engines}, {split}, {window}, {model.dtype}")
    else:
        lines.append(f"    behind {model.base_url}, up to {model.max_in_flight} requests at a time")
    if model.system_prompt:
        text = " ".join(model.system_prompt.split())
        lines.append(f"    system prompt: {text if len(text) <= 80 else text[:77] + '...'}")
    return lines


def _needed_lines(config: FusionConfig) -> list[str]:
    wanted = bundles(config)
    num_gpus, num_cpus = sum(b.num_gpus for b in wanted), sum(b.num_cpus for b in wanted)
    owners: dict[str, list[str]] = {}
    for bundle in wanted:
        owners.setdefault(bundle.owner, []).append(str(bundle))
    lines = [f"in all: {num_gpus:g} GPU, {num_cpus:.4g} CPU"]
    for owner, each in owners.items():
        different = dict.fromkeys(each)
        lines.append(f"{owner}: " + ", ".join(f"{each.count(one)} x ({one})" for one in different))
    if more := bundles_to_grow(config):
        num_gpus, num_cpus = sum(b.num_gpus for b in more), sum(b.num_cpus for b in more)
        lines.append(f"to grow as far as allowed: {num_gpus:g} GPU, {num_cpus:.4g} CPU more")
    return lines


def _placement_lines(config: FusionConfig, nodes: Sequence[Node] | None) -> list[str]:
    if nodes is None:
        return [
            "not checked: this machine has no GPU and the run asks for some;",
            "give the nodes with --nodes FILE, or a running cluster with --address",
        ]
    layout = place(config, nodes)
    lines = []
    for node in nodes:
        card = f" {node.gpu_name}" if node.gpu_name else ""
        own = [f"{amount:g} {name}" for name, amount in sorted(node.resources.items())]
        own += [f"{key}={value}" for key, value in sorted(node.labels.items()) if not key.startswith("ray.io/node-")]
        told = "".join(f", {one}" for one in own)
        lines.append(f"{node.name} ({node.num_gpus} GPU{card}, {node.num_cpus:.4g} CPU{told}):")
        seated = layout.on(node.name)
        lines += [f"    {bundle.who}: {bundle}" for bundle in seated] or ["    nothing"]
    lines += [f"no room: {misfit}" for misfit in layout.misfits]
    lines += [f"no room to grow: {misfit}" for misfit in layout.short]
    return lines


def _memory_lines(config: FusionConfig, findings: Findings, nodes: Sequence[Node] | None) -> list[str]:
    cards = {node.card_gb for node in nodes or () if node.num_gpus}
    known = [card for card in cards if card is not None]
    # Where cards differ, the smallest one has to do.
    card_gb = min(known) if known and None not in cards else None
    attention = findings.attention.name if findings.attention is not None else None
    lines = estimates(config, findings.sizes, card_gb, attention)
    text = [_estimate_line(line) for line in lines]
    if config.colocates and nodes is not None:
        text += sharing_lines(config, nodes, findings.sizes)
    on_machine = [line for line in lines if line.of_what == "of main memory"]
    if on_machine and all(line.gb is not None for line in on_machine):
        total = sum(line.num * (line.gb or 0) for line in on_machine)
        text.append(f"together: {total:.1f} GB of main memory{_against(total, nodes)}")
    return text


def _disk_lines(config: FusionConfig, findings: Findings) -> list[str]:
    size, training = findings.sizes[config.target.name], config.training
    if size is None:
        return ["checkpoints: not known, the target's files are not here"]
    disk = checkpoint_disk(training, size.num_trained_params, size.stored_bytes)
    state = f" and one optimizer state, {disk.optimizer:.1f} GB" if disk.optimizer else " and no optimizer state"
    return [
        f"checkpoints: up to {disk.most:.1f} GB: {training.keep_checkpoints} versions of the weights, "
        f"{disk.version:.1f} GB each, beside version 0, the best one and the exports{state} (two while one is written)"
    ]


def _estimate_line(line: Estimate) -> str:
    amount = "not known" if line.gb is None else f"{line.gb:.1f} GB {line.of_what}"
    return f"{line.num} x {line.who}: {amount} ({line.parts})"


def _against(total: float, nodes: Sequence[Node] | None) -> str:
    if nodes is None or any(node.memory_gb is None for node in nodes):
        return ""
    there = sum(node.memory_gb or 0 for node in nodes)
    return f"; there are {there:g} GB" + (", which may not suffice" if total > there else "")
