"""Runs all checks that are possible before a start, once. Part of the preflight; see its __init__.py."""

from __future__ import annotations

from collections.abc import Sequence

from bohdi_ray.config import FusionConfig
from bohdi_ray.engines.prompts import TemplateSet
from bohdi_ray.errors import ConfigError
from bohdi_ray.observe.trackers.opening import tracker_errors
from bohdi_ray.placement.capacity import Node
from bohdi_ray.placement.machines import this_machine
from bohdi_ray.placement.memory.engine_settings import all_with_last_words
from bohdi_ray.placement.on_cpu import slow_formats, unproved_errors
from bohdi_ray.placement.placement import bundles, bundles_to_grow, placement_errors, resolve_gpus
from bohdi_ray.preflight.cards import check_cards, check_kv_room, check_windows, hosted_models
from bohdi_ray.preflight.corpus import check_corpus
from bohdi_ray.preflight.evaluation import evaluation_errors
from bohdi_ray.preflight.findings import Findings
from bohdi_ray.preflight.hub import Hub
from bohdi_ray.preflight.inputs import check_remote_sources, check_seed, checked_templates
from bohdi_ray.preflight.learning import learning_errors, stage_errors
from bohdi_ray.preflight.models import check_model
from bohdi_ray.preflight.run_dir import run_dir_errors
from bohdi_ray.preflight.shared_cards import sharing_errors
from bohdi_ray.training.weights.attention import check_name
from bohdi_ray.training.zero.config import check_deepspeed


def preflight(
    config: FusionConfig, nodes: Sequence[Node] | None, resume: bool = False, hub: Hub | None = None
) -> Findings:
    """Runs all checks once. `nodes` is where the run will be placed; with None placement is not checked. With `resume`
    the run directory may hold a run; driver/resume.py checks whether it does, and which. With `hub`, models given as
    hub ids are checked like folders, from the hub's metadata; without it they are not checked."""
    findings, config = Findings(), all_with_last_words(config)
    prompts = checked_templates(config, findings)
    _check_models(config, prompts, findings, hub)
    check_remote_sources(config, nodes, findings)
    check_seed(config, findings)
    check_corpus(config, findings, resume)
    findings.problems += learning_errors(config)
    findings.problems += [] if resume else stage_errors(config)
    try:
        check_deepspeed(config.training.deepspeed)
    except ConfigError as error:
        findings.problems.append(error)
    _check_attention_name(config, nodes, findings)
    findings.problems += run_dir_errors(config.run_dir, resume)
    findings.problems += tracker_errors(config.observe)
    findings.problems += evaluation_errors(config.evaluate)
    check_kv_room(config, nodes, findings)
    if nodes is None:
        findings.notes.append("placement: the nodes the run would get are not known")
    else:
        findings.problems += placement_errors(config, nodes)
        resolved = resolve_gpus(config, any(node.num_gpus for node in nodes))
        findings.problems += unproved_errors(hosted_models(resolved), findings.configs)
        findings.advice += slow_formats(resolved)
        check_cards(config, nodes, findings)
        if config.colocates:
            findings.problems += sharing_errors(resolved, nodes, findings.sizes)
    return findings


def local_node(config: FusionConfig) -> Node:
    """This machine as a run on it alone sees it: as many CPU slots as the run asks for, and the existing GPUs."""
    machine = this_machine()
    resolved = resolve_gpus(config, machine.num_gpus > 0)
    wanted = sum(bundle.num_cpus for bundle in (*bundles(resolved), *bundles_to_grow(resolved)))
    return Node(
        name=machine.name,
        num_cpus=max(machine.num_cpus, wanted),
        num_gpus=machine.num_gpus,
        memory_gb=machine.memory_gb,
        gpu_name=machine.gpu_name,
        gpu_memory_gb=machine.gpu_memory_gb,
    )


def _check_attention_name(config: FusionConfig, nodes: Sequence[Node] | None, findings: Findings) -> None:
    try:
        check_name(config.training.attn_implementation, None if nodes is None else any(n.num_gpus for n in nodes))
    except ConfigError as error:
        findings.problems.append(error)


def _check_models(config: FusionConfig, prompts: TemplateSet | None, findings: Findings, hub: Hub | None) -> None:
    models = hosted_models(config)
    for at, model in models.items():
        check_model(at, model, config, prompts, findings, hub)
    check_windows(config, findings)
    if not findings.unchecked:
        return
    all_models, unchecked = len(models), len(findings.unchecked)
    are = "is a hub id and was" if unchecked == 1 else "are hub ids and were"
    unpinned = [m.name for m in models.values() if m.name in findings.unchecked and m.revision is None]
    pins = f"; no revision is pinned for {', '.join(unpinned)}" if unpinned else ""
    asks = "" if hub is not None else ": bohdi plan --online asks the hub"
    why = "was not asked" if hub is None else "could not be asked"
    text = f"{unchecked} of {all_models} models {are} not checked{asks} (the hub {why}{pins})"
    findings.notes.insert(0, text)
