"""A small server on loopback that answers chat completions as a test says, in this process, in threads.

`queued` answers come first, then what `rules` make of a request, then `default`. Every request's body and headers are
kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bohdi_ray.config import OpenAIModel
from bohdi_ray.engines.openai import RemoteEngine, capabilities
from bohdi_ray.records import EngineReply, GenerationRequest, SamplingSpec

# Status, body (a str is sent as it is; None: never answers), headers.
Answer = tuple[int, Any, dict[str, str]]
Rule = Callable[[dict], Answer | None]


class Server:
    """Listens from when it is made until `close`."""

    def __init__(self) -> None:
        self.queued: list[Answer] = []
        self.rules: list[Rule] = []
        self.default: Answer | Callable[[dict], Answer] = (200, reply("fine"), {})
        self.delay_s = 0.0
        self.requests: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.most_at_once = self._now = 0
        self.released = threading.Event()
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, content, headers = server.take(self.path, body, dict(self.headers))
                if content is None:
                    server.released.wait(20)
                    self.close_connection = True
                    return
                if server.delay_s:
                    server.released.wait(server.delay_s)
                data = (content if isinstance(content, str) else json.dumps(content)).encode()
                server.leave()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        # The system gives ports again: what another test's server taught at this address is not about this one.
        for known in [known for known in capabilities._KNOWN if known[0] == self.url]:
            del capabilities._KNOWN[known]
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    def take(self, path: str, body: dict, headers: dict[str, str]) -> Answer:
        with self._lock:
            self.paths.append(path)
            self.requests.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            if self.queued:
                return self.queued.pop(0)
        for rule in self.rules:
            if (answer := rule(body)) is not None:
                return answer
        return self.default(body) if callable(self.default) else self.default

    def leave(self) -> None:
        with self._lock:
            self._now -= 1

    def close(self) -> None:
        self.released.set()
        self.http.shutdown()
        self.http.server_close()

    def model(self, **fields: Any) -> OpenAIModel:
        """The configuration of this server as a source."""
        return OpenAIModel(**{"name": "far", "kind": "openai", "model": "m", "base_url": self.url, **fields})

    def ask(self, *requests: GenerationRequest, ping: bool = False, **fields: Any) -> dict[str, EngineReply]:
        """Completions by request id, of an engine of its own; after a health check with `ping`."""
        return self.ask_all(*requests, ping=ping, **fields)[0]

    def ask_all(self, *requests: Any, ping: bool = False, judges: bool = True, **fields: Any) -> tuple[dict, Any]:
        """The same, and the engine's counters."""

        async def main() -> tuple[dict, Any]:
            engine = RemoteEngine(self.model(**fields), first_delay_s=0.01, judges=judges)
            await engine.start()
            try:
                if ping:
                    await engine.ping()
                parts = [part async for part in engine.run(requests)] if requests else []
                return {c.request_id: c for part in parts for c in part}, await engine.stats()
            finally:
                await engine.stop()

        return asyncio.run(asyncio.wait_for(main(), 60))


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()


def request(name: str = "a", **fields: Any) -> GenerationRequest:
    """A request for an answer; with `choices` one for a label."""
    sampling = fields.pop("sampling", SamplingSpec(0.7, 0.8, 100, 5))
    role = fields.pop("role", "judge" if "choices" in fields else "answer")
    return GenerationRequest(name, role, fields.pop("prompt", "Why?"), sampling, **fields)


def logprobs(*positions: list[tuple[str, float]]) -> dict:
    """Log-probabilities: the alternatives of every position, the one that was chosen first."""
    content = []
    for position in positions:
        entries = [{"token": token, "logprob": value, "bytes": None} for token, value in position]
        content.append({**entries[0], "top_logprobs": entries})
    return {"content": content}


def reply(
    text: Any,
    top: list[tuple[str, float]] | None = None,
    finish: Any = "stop",
    usage: dict | None = None,
    **message: Any,
) -> dict:
    """A chat completion. `top`: alternatives of its first position."""
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish,
                "logprobs": None if top is None else logprobs(top),
            }
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14, **(usage or {})},
    }


def refusing(status: int, body: Any) -> Callable[[dict], Answer]:
    return lambda _: (status, body, {})


def helpful(body: dict) -> Answer:
    """What a willing model answers to a health check and to any other request."""
    asked = body["messages"][-1]["content"]
    asked = asked if isinstance(asked, str) else asked[0]["text"]
    if "letter A or B" in asked:
        return 200, reply("A", [("A", -0.1), ("B", -2.4)] if body.get("logprobs") else None), {}
    return 200, reply("1. Optics" if "numbered list" in asked else "fine"), {}
