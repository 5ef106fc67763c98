"""What the configuration's models cannot check alone: folders, templates, windows, the run directory, the nodes.

Called by `bohdi plan` and by `fuse` before anything starts. It only reads, loads no model and asks no network; what
it cannot check it says instead of guessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bohdi_ray.addresses import HUB_ID
from bohdi_ray.config import FusionConfig, VllmModel
from bohdi_ray.engines.chat import require_chat_template
from bohdi_ray.engines.families.folder_checks import folder_errors
from bohdi_ray.engines.hf_tokenizer import require_hugging_face_layout
from bohdi_ray.engines.openai import resolve_secret
from bohdi_ray.engines.prompts import load_templates
from bohdi_ray.errors import ConfigError, ConfigErrors
from bohdi_ray.layout.machines import THIS_MACHINE, this_machine
from bohdi_ray.layout.memory import ModelSize, model_size, weights_gb
from bohdi_ray.layout.placement import Node, bundles, bundles_to_grow, place, placement_errors, resolve_gpus
from bohdi_ray.layout.shared_cards import sharing_errors
from bohdi_ray.layout.unproved import unproved_errors
from bohdi_ray.observe.trackers import tracker_errors
from bohdi_ray.preflight_run_dir import run_dir_errors
from bohdi_ray.quickstart import default_cache_dir
from bohdi_ray.records import ROLES
from bohdi_ray.training.ds_config import check_deepspeed
from bohdi_ray.tree.names import read_seeds, seed_paths

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")


@dataclass(slots=True)
class Findings:
    """All that was found: what is wrong, what could not be checked, and the sizes of models whose files are here."""

    problems: list[ConfigError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sizes: dict[str, ModelSize | None] = field(default_factory=dict)

    def raise_if_wrong(self) -> None:
        """Raises ConfigErrors with every problem."""
        if self.problems:
            raise ConfigErrors(self.problems)


def preflight(config: FusionConfig, nodes: Sequence[Node] | None, resume: bool = False) -> Findings:
    """Looks at everything once. `nodes` is where the run will be placed; None leaves the placement unchecked. With
    `resume` the run directory may hold a run; whether it does, and which, is driver/resume.py's affair."""
    findings = Findings()
    for place_name, model in hosted_models(config).items():
        _check_model(place_name, model, config, findings)
    _check_remote_sources(config, nodes, findings)
    _check_files(config, findings)
    try:
        check_deepspeed(config.training.deepspeed)
    except ConfigError as error:
        findings.problems.append(error)
    findings.problems += run_dir_errors(config.run_dir, resume)
    findings.problems += tracker_errors(config.observe)
    if nodes is None:
        findings.notes.append("placement: the nodes the run would get are not known")
    else:
        findings.problems += placement_errors(config, nodes)
        resolved = resolve_gpus(config, any(node.num_gpus for node in nodes))
        findings.problems += unproved_errors(hosted_models(resolved))
        findings.problems += _card_errors(config, nodes, findings)
        if config.colocates:
            findings.problems += sharing_errors(resolved, nodes, findings.sizes)
    return findings


def require(config: FusionConfig, nodes: Sequence[Node] | None) -> None:
    """Raises ConfigErrors when something is known to be wrong."""
    preflight(config, nodes).raise_if_wrong()


def local_node(config: FusionConfig) -> Node:
    """This machine as a run on it alone sees it: CPU slots are as many as it asks for, GPUs as many as there are."""
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


def hosted_models(config: FusionConfig) -> dict[str, VllmModel]:
    """Every model that an engine of ours loads, by its place in the configuration."""
    models = {f"sources.{i}": m for i, m in enumerate(config.sources) if isinstance(m, VllmModel)}
    return {**models, "target": config.target}


def _check_model(at: str, model: VllmModel, config: FusionConfig, findings: Findings) -> None:
    findings.sizes[model.name] = None
    folder = Path(model.model)
    if not folder.is_absolute():
        if HUB_ID.fullmatch(model.model):
            revision = "" if model.revision else ", and no revision is pinned"
            findings.notes.append(
                f"{model.name}: {model.model} is a hub id; the hub was not asked, so whether it exists, its chat "
                f"template and its size are not known{revision}"
            )
        else:
            remedy = "Give a folder (`./…` is beside the configuration file) or a hub id (`owner/name`)."
            findings.problems.append(ConfigError(f"{at}.model", model.model, "is no folder and no hub id", remedy))
        _check_window(at, model, None, config, findings)
        return
    problem = _folder_error(f"{at}.model", folder)
    if problem is not None:
        findings.problems.append(problem)
        return
    try:
        require_chat_template(folder)
    except ConfigError as error:
        findings.problems.append(ConfigError(f"{at}.model", str(folder), error.rule, error.remedy))
    findings.problems += folder_errors(at, folder)
    try:
        size = model_size(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        rule = f"the folder's files are damaged ({error})"
        findings.problems.append(ConfigError(f"{at}.model", str(folder), rule, "Make or download the folder again."))
        return
    findings.sizes[model.name] = size
    _check_window(at, model, size.max_positions, config, findings)


def _folder_error(field_name: str, folder: Path) -> ConfigError | None:
    """What keeps a folder from being a model's, or None."""

    def refused(rule: str, remedy: str) -> ConfigError:
        return ConfigError(field_name, str(folder), rule, remedy)

    if not folder.is_dir():
        if folder.is_relative_to(default_cache_dir()):
            return refused("the model is not in the cache yet", "Make it: bohdi prepare-quickstart (`make demo` does).")
        return refused("there is no such folder", "Give a folder in Hugging Face layout, or a hub id.")
    try:
        require_hugging_face_layout(field_name, folder)
    except ConfigError as error:
        return error
    if not (folder / "config.json").is_file():
        return refused(
            "the folder has no config.json", "Give a folder in Hugging Face layout (save_pretrained makes one)."
        )
    if not any(folder.glob("*.safetensors")):
        return refused(
            "the folder has no *.safetensors, and other formats can run code when they are read",
            "Save the weights as safetensors: model.save_pretrained(folder).",
        )
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return refused("the folder has no tokenizer", "Save it there: tokenizer.save_pretrained(folder).")
    return None


def _check_window(at: str, model: VllmModel, own: int | None, config: FusionConfig, findings: Findings) -> None:
    window, field_name = model.engine.max_model_len, f"{at}.engine.max_model_len"
    if window is not None and own is not None and window > own:
        remedy = f"Lower it to {own} or leave it out."
        findings.problems.append(ConfigError(field_name, window, f"the model itself reads {own} tokens", remedy))
    window = window or own
    if window is None:
        return
    for role in ROLES:
        max_tokens = model.sampling_of(role).max_tokens
        if max_tokens is not None and max_tokens >= window:
            rule = f"leaves no room for a prompt in the window of {window} tokens"
            remedy = "Lower it, or raise engine.max_model_len."
            findings.problems.append(ConfigError(f"{at}.sampling.{role}.max_tokens", max_tokens, rule, remedy))
    judges = model is not config.target and config.judge.policy in ("leader", "others")
    longest = sum(m.sampling_of("answer").max_tokens or 0 for m in (*config.sources, config.target))
    if judges and longest >= window:
        findings.notes.append(
            f"{model.name}: when all answers are as long as they may be ({longest} tokens together), they do not fit "
            f"its window of {window} and it cannot judge them; such harvests are counted as failed"
        )


def _check_remote_sources(config: FusionConfig, nodes: Sequence[Node] | None, findings: Findings) -> None:
    """A key that is missing here is missing on a run of this machine alone; other nodes may have it."""
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


def _key_error(field_name: str, reference: str | None) -> ConfigError | None:
    """What keeps a key from being read here, or None. Never holds the key."""
    try:
        if reference is not None:
            resolve_secret(reference)
    except ConfigError as error:
        return ConfigError(field_name, reference, error.rule, error.remedy)
    except UnicodeDecodeError:
        return ConfigError(field_name, reference, "the file is not text", "Write the key, and nothing else, into it.")
    return None


def _check_files(config: FusionConfig, findings: Findings) -> None:
    """The tree's seed and the prompt templates."""
    try:
        if config.tree.seed is not None:
            seed_paths(read_seeds(Path(config.tree.seed).read_text("utf-8")), config.tree)
    except (OSError, UnicodeDecodeError) as error:
        remedy = "Give a YAML file (`./…` is beside the configuration file), or leave it out."
        findings.problems.append(ConfigError("tree.seed", config.tree.seed, f"cannot be read ({error})", remedy))
    except ConfigError as error:
        findings.problems.append(error)
    try:
        load_templates(config.harvest.prompts)
    except ConfigErrors as errors:
        findings.problems += errors.errors


def _card_errors(config: FusionConfig, nodes: Sequence[Node], findings: Findings) -> list[ConfigError]:
    """Engines whose weights alone are larger than what vLLM may take of the cards they would get."""
    resolved = resolve_gpus(config, any(node.num_gpus for node in nodes))
    cards = {node.name: node.card_gb for node in nodes}
    at = {seat.bundle.owner: seat.node for seat in place(resolved, nodes).seats}
    errors = []
    for place_name, model in hosted_models(resolved).items():
        size, card_gb = findings.sizes[model.name], cards.get(at.get(model.name, ""))
        if size is None or card_gb is None or not model.resources.num_gpus:
            continue
        needed, allowed = weights_gb(model, size), model.engine.gpu_memory_utilization * card_gb
        if needed >= allowed:
            rule = f"the weights take {needed:.1f} GB on each GPU, and vLLM may use {allowed:.1f} of {card_gb:g} GB"
            remedy = "Split the model over more GPUs, or give it larger ones."
            field_name = f"{place_name}.engine.tensor_parallel_size"
            errors.append(ConfigError(field_name, model.engine.tensor_parallel_size, rule, remedy))
    return errors
