"""A model hub on loopback, as much of one as `bohdi plan --online` asks: what a repository holds, and bytes of a file.

Counts what it sends, so that a test can tell that no weights were asked for.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class LoopbackHub:
    """Repositories by id: a folder, or a status and error code that the hub answers with."""

    url: str = ""
    folders: dict[str, Path] = field(default_factory=dict)
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)  # for everything about a repository
    gated: set[str] = field(default_factory=set)  # it may be looked at, its files not be had
    ignores_ranges: bool = False
    num_bytes: int = 0  # sent of files
    asked: list[str] = field(default_factory=list)


@contextmanager
def loopback_hub() -> Iterator[LoopbackHub]:
    hub = LoopbackHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.hub.asked.append(self.path)
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/"):
            repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            self._told(repo, revision)
        else:
            repo, _, rest = path.lstrip("/").partition("/resolve/")
            self._file(repo, rest.partition("/")[2])

    def _refused(self, repo: str) -> bool:
        status, code = self.hub.errors.get(repo, (0, ""))
        if not status and repo not in self.hub.folders:
            status, code = 404, "RepoNotFound"
        if status:
            self._send(status, b'{"error": "no"}', {"X-Error-Code": code, "X-Error-Message": "no"})
        return bool(status)

    def _told(self, repo: str, revision: str) -> None:
        if self._refused(repo):
            return
        if revision not in ("", "main", COMMIT):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        folder = self.hub.folders[repo]
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        siblings = [{"rfilename": str(p.relative_to(folder)), "size": p.stat().st_size} for p in files]
        self._send(200, json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode(), {})

    def _file(self, repo: str, name: str) -> None:
        if self._refused(repo):
            return
        if repo in self.hub.gated:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask for access"})
            return
        path = self.hub.folders[repo] / name
        size = path.stat().st_size
        start, end, status, headers = 0, size - 1, 200, {}
        if (asked := self.headers.get("Range")) and not self.hub.ignores_ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end, status = int(first), min(int(last), size - 1), 206
            if start >= size:
                self._send(416, b"", {"Content-Range": f"bytes */{size}"})
                return
            headers = {"Content-Range": f"bytes {start}-{end}/{size}"}
        with path.open("rb") as file:
            file.seek(start)
            if status == 206:
                data = file.read(end - start + 1)
                self.hub.num_bytes += len(data)
                self._send(status, data, headers)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            try:
                while chunk := file.read(65536):
                    self.wfile.write(chunk)
                    self.hub.num_bytes += len(chunk)
            except OSError:  # who asked has hung up
                self.close_connection = True

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data)), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
