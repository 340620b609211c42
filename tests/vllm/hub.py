"""A Hugging Face hub on this machine with one open repository, one that is gated, and nothing else.

Speaks as much of the hub's HTTP as its own client asks for when an engine fetches a model: what a repository holds,
the files with their digests, and the refusals by which the client tells a gated repository from a missing one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rehearsal.server_thread import ServerThread

OPEN, GATED, MISSING = "org/tiny", "org/gated", "org/missing"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

_REFUSALS: Mapping[str, tuple[int, str, str]] = {
    GATED: (403, "GatedRepo", f"Access to model {GATED} is restricted and you are not in the authorized list."),
    MISSING: (404, "RepoNotFound", "Repository not found"),
}


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """The hub's address; ``model`` is the folder that its open repository holds."""
    server = _Hub(("127.0.0.1", 0), model)
    with ServerThread(server):
        yield f"http://127.0.0.1:{server.server_port}"


class _Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], model: Path) -> None:
        super().__init__(address, _Request)
        self.files = {file.name: file.read_bytes() for file in sorted(model.iterdir()) if file.is_file()}


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        for repository, (status, code, told) in _REFUSALS.items():
            if repository in path:
                self._refuse(status, code, told)
                return
        if path.startswith(f"api/models/{OPEN}"):
            self._describe(listing="/tree/" in path)
        elif path.startswith(f"{OPEN}/resolve/"):
            self._give(path.split("/", 4)[-1])
        else:
            self._refuse(404, "RepoNotFound", "Repository not found")

    do_HEAD = do_GET

    def _describe(self, *, listing: bool) -> None:
        files = self.server.files
        tree = [{"type": "file", "path": name, "size": len(data), "oid": _oid(data)} for name, data in files.items()]
        about = {
            "id": OPEN,
            "modelId": OPEN,
            "sha": COMMIT,
            "private": False,
            "gated": False,
            "tags": [],
            "downloads": 0,
            "siblings": [{"rfilename": name} for name in files],
        }
        self._answer(200, json.dumps(tree if listing else about).encode(), {"Content-Type": "application/json"})

    def _give(self, name: str) -> None:
        data = self.server.files.get(name)
        if data is None:
            self._refuse(404, "EntryNotFound", f"{name} does not exist in {OPEN}")
            return
        told = {"ETag": f'"{_oid(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        self._answer(200, data, {"Content-Type": "application/octet-stream", **told})

    def _refuse(self, status: int, code: str, told: str) -> None:
        body = json.dumps({"error": told}).encode()
        self._answer(status, body, {"X-Error-Code": code, "X-Error-Message": told, "Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def _oid(data: bytes) -> str:
    """As git names a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
