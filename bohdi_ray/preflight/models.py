"""Checks one hosted model: its folder, its weights, its window, and a trial of its chat template. Part of the
preflight."""

from __future__ import annotations

from pathlib import Path

from bohdi_ray.config import FusionConfig, VllmModel
from bohdi_ray.config.addresses import HUB_ID
from bohdi_ray.engines.chat.hf_tokenizer import require_hugging_face_layout
from bohdi_ray.engines.chat.style import template_errors
from bohdi_ray.engines.families.targets import stored_fault
from bohdi_ray.engines.prompts import TemplateSet
from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.memory.estimate import ModelSize, model_config, model_size
from bohdi_ray.placement.memory.model_tensors import REMEDY as SAVE_AGAIN
from bohdi_ray.placement.memory.model_tensors import rows_fault, tensors_fault
from bohdi_ray.placement.memory.weight_files import index_needed
from bohdi_ray.placement.memory.weight_headers import headers_of, index_fault, quantized_as
from bohdi_ray.preflight.family_checks import folder_errors
from bohdi_ray.preflight.findings import Findings
from bohdi_ray.preflight.folder_files import AGAIN, folder_fault
from bohdi_ray.preflight.hub import Hub, HubUnreachable
from bohdi_ray.preflight.templates import check_templates
from bohdi_ray.training.weights.attention import attention_for


def check_model(
    at: str, model: VllmModel, config: FusionConfig, prompts: TemplateSet | None, findings: Findings, hub: Hub | None
) -> None:
    """All checks of one model; `at` is its path in the configuration."""
    findings.sizes[model.name] = None
    folder = _folder(at, model, findings, hub)
    if folder is None:
        return
    size = _checked_size(at, model, folder, findings)
    if size is None:
        return
    findings.sizes[model.name] = size = _as_loaded(at, model, size, findings)
    for error in folder_errors(at, folder, model.trust_remote_code):
        findings.refuse(error.field, model.model, error.rule, error.remedy)
    if model is config.target:
        try:
            findings.attention = attention_for(config.training.attn_implementation, size.config)
        except ConfigError as error:
            findings.problems.append(error)
    teaches_reasoning = model is config.target and config.training.reasoning == "keep"
    findings.problems += template_errors(at, model, folder, teaches_reasoning)
    check_templates(at, model, folder, size.window_of(model), config, prompts, findings)


def _folder(at: str, model: VllmModel, findings: Findings, hub: Hub | None) -> Path | None:
    """The folder with the model's files, or with the hub's information; None if there is nothing to check."""
    folder = Path(model.model)
    if folder.is_absolute():
        return folder
    if not HUB_ID.fullmatch(model.model):
        remedy = "Give a folder (`./…` is beside the configuration file) or a hub id (`owner/name`)."
        findings.refuse(f"{at}.model", model.model, "is no folder and no hub id", remedy)
        return None
    if hub is None:
        findings.unchecked.append(model.name)
        return None
    try:
        told = hub.look(at, model.model, model.revision)
    except HubUnreachable as error:
        findings.unchecked.append(model.name)
        findings.refuse(*error.parts)
        return None
    if told.problem is not None:
        findings.problems.append(told.problem)
        return None
    pin = "as pinned" if model.revision == told.commit else f"pin it: revision: {told.commit}"
    findings.hub.append(f"{model.name}: {model.model} at commit {told.commit} ({pin})")
    return told.folder


def _checked_size(at: str, model: VllmModel, folder: Path, findings: Findings) -> ModelSize | None:
    """The model's size; None if its files were refused."""

    def refuse(rule: str, remedy: str) -> None:
        findings.refuse(f"{at}.model", model.model, rule, remedy)

    try:
        require_hugging_face_layout(f"{at}.model", folder)
    except ConfigError as error:
        findings.problems.append(error)
        return None
    if (found := folder_fault(folder)) is not None:
        refuse(*found)
        return None
    try:
        headers = headers_of(folder)
        size = model_size(folder, headers)
        tensors = {name: entry for table in headers.values() for name, entry in table.items()}
        own, stored_as = model_config(folder), quantized_as(tensors)
        fault = index_fault(folder, headers) or tensors_fault(own, tensors, stored_as is not None)
        fault = fault or rows_fault(own, tensors)
    except (OSError, ValueError, KeyError, TypeError) as error:
        refuse(f"the folder's files are damaged ({error})", AGAIN)
        return None
    if fault is not None:
        refuse(fault, SAVE_AGAIN)
    if at == "target":
        for found in (index_needed(folder), stored_fault(size.config, stored_as)):
            if found is not None:
                refuse(*found)
    return size


def _as_loaded(at: str, model: VllmModel, size: ModelSize, findings: Findings) -> ModelSize:
    """The model as the engines load it: config.json with their changes, and for the target what is published."""
    try:
        size = size.served_as(model)
    except ValueError as error:
        rule = f"with hf_overrides config.json describes no valid model ({error})"
        findings.refuse(f"{at}.engine.extra", model.engine.extra, rule, "Correct it, or leave it out.")
    return size.published() if at == "target" else size
