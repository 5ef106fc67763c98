"""A run's inputs other than models: starting domains, prompt templates, keys of remote servers. Part of the
preflight."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bohdi_ray.config import FusionConfig
from bohdi_ray.engines.openai import resolve_secret
from bohdi_ray.engines.openai.proxies import proxy_of
from bohdi_ray.engines.prompts import TEMPLATE_NAMES, TemplateSet, load_templates
from bohdi_ray.errors import ConfigError, ConfigErrors
from bohdi_ray.placement.capacity import Node
from bohdi_ray.placement.machines import THIS_MACHINE
from bohdi_ray.preflight.findings import Findings
from bohdi_ray.tree.names import read_seeds, seed_paths


def check_seed(config: FusionConfig, findings: Findings) -> None:
    """Checks the tree's starting domains."""
    seed = config.tree.seed
    if seed is None:
        return
    try:
        if not seed_paths(read_seeds(Path(seed).read_text("utf-8")), config.tree):
            remedy = "Write domains into it as a nested list or mapping, or leave tree.seed out."
            findings.refuse("tree.seed", seed, "it names no domain", remedy)
    except (OSError, UnicodeDecodeError) as error:
        remedy = "Give a YAML file (`./…` is beside the configuration file), or leave it out."
        findings.refuse("tree.seed", seed, f"cannot be read ({error})", remedy)
    except ConfigError as error:
        findings.problems.append(error)


def checked_templates(config: FusionConfig, findings: Findings) -> TemplateSet | None:
    """The prompts that harvests will use; None if they were refused."""
    try:
        templates = load_templates(config.harvest.prompts)
    except ConfigErrors as errors:
        findings.problems += errors.errors
        return None
    if config.harvest.prompts is not None:
        _check_prompts_folder(Path(config.harvest.prompts).expanduser(), findings)
    return templates


def _check_prompts_folder(folder: Path, findings: Findings) -> None:
    """Checks a folder of prompts: it is an error if it replaces no template, or holds misnamed template files."""
    known = ", ".join(f"{name}.jinja" for name in TEMPLATE_NAMES)
    names = sorted(path.name for path in folder.iterdir())
    meant = {name: name.lower().split(".")[0] for name in names if not name.endswith(".jinja")}
    wrong = [name for name, stem in meant.items() if stem in TEMPLATE_NAMES and f"{stem}.jinja" not in names]
    for name in wrong:  # question.txt, answer.j2; a copy beside the template itself is nobody's mistake
        rule = "replaces no template"
        findings.refuse("harvest.prompts", str(folder / name), rule, f"Rename it: the templates are {known}.")
    if not wrong and not any(name.endswith(".jinja") for name in names):
        remedy = f"Put one or more of {known} into it, or leave harvest.prompts out."
        findings.refuse("harvest.prompts", str(folder), "replaces no template", remedy)


def check_remote_sources(config: FusionConfig, nodes: Sequence[Node] | None, findings: Findings) -> None:
    """Checks keys and proxies of remote sources. A missing key or an unusable proxy is an error only if the run uses
    this machine alone, because other nodes have their own environment."""
    here_alone = nodes is not None and [node.name for node in nodes] == [THIS_MACHINE]
    for i, source in enumerate(config.sources):
        if source.kind != "openai":
            continue
        findings.notes.append(f"{source.name}: the server at {source.base_url} was not asked")
        problem = _key_error(f"sources.{i}.api_key", source.api_key)
        if problem is not None and here_alone:
            findings.problems.append(problem)
        elif problem is not None:
            findings.notes.append(f"{source.name}: {source.api_key} gives no key here; the nodes of the run need it")
        try:
            proxy_of(source.base_url)
        except ConfigError as error:
            if here_alone:
                findings.problems.append(error)
            else:
                findings.notes.append(
                    f"{source.name}: with this machine's environment it could not be reached: {error}"
                )


def _key_error(field_name: str, reference: str | None) -> ConfigError | None:
    """Why a key cannot be read here, or None. Never contains the key."""
    try:
        if reference is not None:
            resolve_secret(reference)
    except ConfigError as error:
        return ConfigError(field_name, reference, error.rule, error.remedy)
    except UnicodeDecodeError:
        return ConfigError(field_name, reference, "the file is not text", "Write the key, and nothing else, into it.")
    return None
