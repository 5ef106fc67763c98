"""The connection to one model's server through the official client; it sends nothing from this machine's environment.

The client takes much from the environment that is meant for OpenAI's own servers (organisation, project, further
headers, an administrator's key). This module sends none of it: a source's server gets only the key of its `api_key`.
Proxies of the environment do apply. Callers handle retries and interpret the answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from bohdi_ray.config import OpenAIModel
from bohdi_ray.engines.openai.proxies import proxy_of
from bohdi_ray.engines.openai.secrets import resolve_secret, without_secret
from bohdi_ray.engines.openai.troubles import MAX_SAID, UNREACHABLE, Trouble, trouble_in, trouble_of
from bohdi_ray.errors import ConfigError

ENDPOINT = "/chat/completions"


@dataclass(frozen=True, slots=True)
class Reply:
    """The body of a server's response: its parsed JSON, or its text if that is not JSON."""

    content: Any


class ServerClient:
    """Creates the HTTP connection pool when constructed, in a running event loop. Raises ConfigError for a key or a
    proxy that cannot be used; sends nothing by itself."""

    def __init__(self, model: OpenAIModel):
        import openai

        self._key = resolve_secret(model.api_key) if model.api_key else ""
        self._timeout_s = model.timeout_s
        address = urlsplit(model.base_url)
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        path = address.path.rstrip("/").removesuffix(ENDPOINT)
        nothing = openai.Omit()
        headers: dict[str, Any] = {name: nothing for name in _headers_of_environment()}
        if "api-version" in query:  # Azure's own addresses of deployments
            headers["api-key"] = self._key or nothing
        headers["Authorization"] = f"Bearer {self._key or 'none'}"
        self._client = openai.AsyncOpenAI(
            base_url=urlunsplit((address.scheme, address.netloc, path, "", "")),
            api_key=self._key or "none",
            max_retries=0,
            timeout=model.timeout_s,
            default_headers=headers,
            default_query=query,
            http_client=_http_client(model),
        )
        # None is replaced by the environment's when a client is made, so this is set behind it.
        self._client.organization = self._client.project = None
        self._client.admin_api_key = None

    async def ask(self, body: dict[str, Any]) -> Reply | Trouble:
        """Sends one request and returns one answer; errors of the server or the connection are returned as troubles."""
        import openai

        rest = {name: value for name, value in body.items() if name not in ("model", "messages")}
        prompt = _text_of(body["messages"][-1]["content"])
        try:
            async with asyncio.timeout(self._timeout_s):  # the client's own limits every read, not the whole
                raw = await self._client.chat.completions.with_raw_response.create(
                    model=body["model"], messages=body["messages"], extra_body=rest
                )
                text = raw.http_response.text
        except openai.APIStatusError as error:
            headers = {name.lower(): value for name, value in error.response.headers.items()}
            told = without_secret(error.response.text, self._key)
            return trouble_of(error.response.status_code, told, headers, prompt)
        except (TimeoutError, openai.APITimeoutError):
            return Trouble(UNREACHABLE, f"no answer within {self._timeout_s:g} s (timeout_s)")
        except openai.APIConnectionError as error:
            return Trouble(UNREACHABLE, f"no connection ({_cause(error, self._key)})")
        except openai.OpenAIError as error:
            return Trouble(0, without_secret(str(error), self._key)[:MAX_SAID])
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return Reply(text)
        return trouble_in(content, without_secret(text, self._key), prompt) or Reply(content)

    async def close(self) -> None:
        await self._client.close()


def _headers_of_environment() -> list[str]:
    """The names of headers that the client would send because of OPENAI_CUSTOM_HEADERS."""
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    further = [name.strip() for name, colon, _ in (line.partition(":") for line in lines) if colon]
    return ["OpenAI-Organization", "OpenAI-Project", *(name for name in further if name.lower() != "authorization")]


def _http_client(model: OpenAIModel) -> Any:
    """An HTTP client with the proxy that applies to this server and the certificates that the environment names."""
    import openai

    proxy = proxy_of(model.base_url)
    files = os.environ.get("SSL_CERT_FILE") or None, os.environ.get("SSL_CERT_DIR") or None
    try:
        verify = _certificates(*files)
    except OSError as error:
        shown = files[0] or files[1]
        raise ConfigError("SSL_CERT_FILE", shown, f"cannot be read ({error})", "Correct or unset it.") from error
    try:
        return openai.DefaultAsyncHttpxClient(proxy=proxy, trust_env=False, timeout=model.timeout_s, verify=verify)
    except (ImportError, ValueError) as error:
        if proxy is None:
            raise
        raise ConfigError(
            "ALL_PROXY", "(not shown)", f"the client cannot use this proxy ({error})", "Correct it, or unset it."
        ) from None


@lru_cache(maxsize=8)
def _certificates(file: str | None, folder: str | None) -> ssl.SSLContext:
    """The trusted certificates: those that the environment names, else the usual authorities. Reading them takes a
    while."""
    import certifi

    return ssl.create_default_context(cafile=file if file or folder else certifi.where(), capath=folder)


def _cause(error: BaseException, secret: str) -> str:
    """The innermost cause, which has the useful message."""
    seen: set[int] = set()
    while error.__cause__ is not None and id(error) not in seen:
        seen.add(id(error))
        error = error.__cause__
    return without_secret(" ".join(f"{type(error).__name__}: {error}".split()), secret)[:MAX_SAID]


def _text_of(content: Any) -> str:
    return content if isinstance(content, str) else content[0]["text"]
