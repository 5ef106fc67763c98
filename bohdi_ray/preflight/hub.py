"""Presents a model on a hub as a folder that all folder checks can read. For `bohdi plan --online`.

Small files are downloaded. Weight files have their true size and header, and no content after it (sparse files): no
weights are downloaded. Everything is in a temporary folder that goes with the `Hub`. HF_ENDPOINT, HF_TOKEN and a login
of `hf auth login` count as they do for huggingface_hub, which alone is used to talk to the hub.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bohdi_ray.engines.chat.hf_tokenizer import TEKKEN, TOKENIZER_FILES
from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.memory.weight_files import weight_files
from bohdi_ray.placement.memory.weight_headers import LENGTH_BYTES, MAX_HEADER_BYTES
from bohdi_ray.preflight.folder_files import PARSED_FILES

TIMEOUT_S = 20.0  # of one request
MAX_FILE_BYTES = 64_000_000  # of a file that is downloaded; the largest tokenizers have 33 MB
MAX_FILES = 20_000
AT_A_TIME = 8
FIRST_BYTES = 100_000  # most tables of tensors fit
# Whatever the checks parse. Everything else in the repository is there by name and size alone.
DOWNLOADED = frozenset({*PARSED_FILES, "params.json", "preprocessor_config.json", "processor_config.json"})
TEMPLATES = "additional_chat_templates"


class HubUnreachable(Exception):
    """The hub does not answer, or answers unlike a hub; never leaves the preflight."""

    def __init__(self, endpoint: str, rule: str, remedy: str):
        self.parts = ("--online", endpoint, rule, remedy)
        super().__init__(rule)


@dataclass(frozen=True, slots=True)
class Told:
    """The hub's information about one revision of a model."""

    folder: Path | None
    commit: str
    problem: ConfigError | None = None


@contextmanager
def asked_hub() -> Iterator[Hub]:
    """A hub client, and a folder for its answers that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="bohdi-hub-") as folder:
        yield Hub(Path(folder))


class Hub:
    """Queries each model and revision once."""

    def __init__(self, folder: Path):
        from huggingface_hub import HfApi, constants

        self.endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        self._api = HfApi(endpoint=self.endpoint)
        self._folder = folder
        self._told: dict[tuple[str, str | None], Told] = {}
        self._unreachable: HubUnreachable | None = None

    def look(self, at: str, model: str, revision: str | None) -> Told:
        """The hub's information about a model; `at` is the model's path in the configuration. Raises HubUnreachable."""
        if self._unreachable is not None:
            raise self._unreachable
        if (model, revision) not in self._told:
            self._told[model, revision] = self._ask(at, model, revision)
        return self._told[model, revision]

    def _ask(self, at: str, model: str, revision: str | None) -> Told:
        try:
            info = self._api.model_info(model, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
            folder = self._folder / str(len(self._told))
            folder.mkdir()
            commit = str(info.sha or revision or "main")
            sizes = {file.rfilename: file.size for file in (info.siblings or ())[:MAX_FILES]}
            self._lay_out(folder, model, commit, sizes)
        except Exception as error:  # of HTTP libraries, of huggingface_hub, of what a server that is no hub answers
            return Told(None, "", self._problem(at, model, revision, error))
        return Told(folder, commit)

    def _lay_out(self, folder: Path, model: str, commit: str, sizes: dict[str, int | None]) -> None:
        """Creates every top-level file of the repository that a check may read."""
        wanted: list[tuple[Path, str]] = []
        # Read only where it is the only tokenizer; it is large.
        parsed = DOWNLOADED if any(name in sizes for name in TOKENIZER_FILES) else {*DOWNLOADED, TEKKEN}
        for name, size in sizes.items():
            path = PurePosixPath(name)
            is_template = path.parts[:-1] == (TEMPLATES,) and path.suffix == ".jinja"
            if not (len(path.parts) == 1 or is_template) or path.parts[0] in ("..", "/"):
                continue
            place = folder / path
            place.parent.mkdir(exist_ok=True)
            with place.open("wb") as file:
                file.truncate(1 if size is None else size)
            if name in parsed or is_template:
                wanted.append((place, name))
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(lambda one: self._download(one[0], one[1], model, commit), wanted))
            try:
                weights = weight_files(folder)
            except ValueError:  # the checks of the folder say so
                return
            list(pool.map(lambda file: self._head(file, model, commit, sizes[file.name]), weights))

    def _download(self, place: Path, name: str, model: str, commit: str) -> None:
        data, total = self._bytes(model, commit, name, 0, MAX_FILE_BYTES)
        if len(data) < (total or 0):
            raise ValueError(f"{name} has {total} bytes, more than such a file may have")
        place.write_bytes(data)

    def _head(self, place: Path, model: str, commit: str, size: int | None) -> None:
        """Writes the header of a safetensors file into a sparse file as large as the original."""
        data, total = self._bytes(model, commit, place.name, 0, FIRST_BYTES)
        needed = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
        if len(data) < needed <= MAX_HEADER_BYTES and len(data) == FIRST_BYTES:
            data += self._bytes(model, commit, place.name, FIRST_BYTES, needed - FIRST_BYTES)[0]
        with place.open("wb") as file:
            file.write(data[:needed])
            file.truncate(size if size is not None else total or len(data))

    def _bytes(self, model: str, commit: str, name: str, start: int, most: int) -> tuple[bytes, int | None]:
        """At most `most` bytes of a file from `start` on, and the file's whole size if the server gives it. Anything
        the server sends beyond that is not read."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        url = hf_hub_url(model, name, revision=commit, endpoint=self.endpoint)
        headers = {**build_hf_headers(), "range": f"bytes={start}-{start + most - 1}", "accept-encoding": "identity"}
        parts: list[bytes] = []
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S) as response:
            if response.status_code >= 400:
                response.read()
            if response.status_code == 416:  # an empty file has no first byte
                return b"", 0
            hf_raise_for_status(response)
            partial = response.status_code == 206
            skip, num_bytes = (0 if partial else start), 0
            for chunk in response.iter_bytes():
                chunk, skip = chunk[skip:], max(0, skip - len(chunk))
                parts.append(chunk)
                num_bytes += len(chunk)
                if num_bytes >= most:
                    break
            total = response.headers.get("content-range", "").rpartition("/")[2]
            if not partial:
                total = response.headers.get("content-length", "")
        return b"".join(parts)[:most], int(total) if total.isdecimal() else None

    def _problem(self, at: str, model: str, revision: str | None, error: Exception) -> ConfigError:
        """The error to report. Raises HubUnreachable if it concerns the hub and not the model."""
        from huggingface_hub import errors

        field, said = f"{at}.model", _first_line(error)
        log_in = "log in with `hf auth login`, or set HF_TOKEN"
        if isinstance(error, errors.GatedRepoError):
            remedy = f"Accept its terms at {self.endpoint}/{model}, then {log_in}."
            return ConfigError(field, model, "the hub provides its files only after its terms are accepted", remedy)
        if isinstance(error, errors.RepositoryNotFoundError):
            remedy = f"Check the spelling of owner/name; for a private model {log_in}."
            return ConfigError(field, model, f"{self.endpoint} has no such model, or none that you may see", remedy)
        if isinstance(error, errors.RevisionNotFoundError):
            remedy = f"Give a commit, branch or tag of {self.endpoint}/{model}/commits/main."
            return ConfigError(f"{at}.revision", revision, f"{model} has no such revision", remedy)
        if isinstance(error, errors.HFValidationError | errors.DisabledRepoError | errors.EntryNotFoundError):
            return ConfigError(field, model, f"the hub refuses it ({said})", "Use another model, or a folder.")
        if isinstance(error, errors.OfflineModeIsEnabled):
            rule, remedy = (
                "HF_HUB_OFFLINE prevents access to the hub",
                "Unset HF_HUB_OFFLINE, or leave out --online.",
            )
        elif (status := getattr(getattr(error, "response", None), "status_code", None)) in (401, 403):
            return ConfigError(field, model, f"the hub refuses access ({said})", f"{log_in[0].upper()}{log_in[1:]}.")
        else:
            what = f"answers with status {status}" if status else "cannot be asked"
            rule = f"the hub {what} ({type(error).__name__}: {said})"
            remedy = "Check the network, proxies and HF_ENDPOINT, or try later; without --online no network is used."
        self._unreachable = HubUnreachable(self.endpoint, rule, remedy)
        raise self._unreachable from error


def _first_line(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
