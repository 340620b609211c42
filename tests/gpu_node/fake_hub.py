"""A Hugging Face hub on loopback: lists of files, and their bytes behind a redirect, from any place on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gpu_node.weights import WeightFile
from rehearsal.server_thread import ServerThread

COMMIT = "a" * 40
LARGE = 1024
"""From this size on a file is in large file storage: behind a redirect, and known by its SHA-256."""


@dataclass
class FakeHub:
    """One repository, and what goes wrong with it."""

    repository: str = "org/tiny"
    commit: str = COMMIT
    files: dict[str, bytes] = field(default_factory=dict)
    token: str | None = None  # who has another one, or none, is refused
    refusal: tuple[int, str] = (403, "GatedRepo")
    missing: bool = False
    down: bool = False
    storage_refusal: int = 0  # the status with which the storage refuses what the hub sent there
    cuts: dict[str, list[int]] = field(default_factory=dict)  # a file's answers end after so many bytes, one by one
    corrupt: dict[str, int] = field(default_factory=dict)  # so many answers have another content
    ignores_ranges: bool = False
    endpoint: str = ""
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    def listing(self) -> dict[str, Any]:
        return {"id": self.repository, "sha": self.commit, "siblings": [self._sibling(path) for path in self.files]}

    def tree(self) -> list[dict[str, Any]]:
        """The same, as the hub's own library asks for it."""
        told = []
        for path, body in self.files.items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(body), "oid": blob_id(body)}
            if len(body) >= LARGE:
                lfs = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 134}
                entry["lfs"] = lfs
            told.append(entry)
        return told

    def _sibling(self, path: str) -> dict[str, Any]:
        body = self.files[path]
        told: dict[str, Any] = {"rfilename": path, "size": len(body), "blobId": blob_id(body)}
        if len(body) >= LARGE:
            told["lfs"] = {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 134}
        return told

    def ranges(self, path: str) -> list[str]:
        """The ranges that were asked of a file's storage, in their order; empty for all of it."""
        return [headers.get("range", "") for asked, headers in self.asked if asked == f"/storage/{path}"]


def blob_id(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def weight_file(path: str, body: bytes) -> WeightFile:
    if len(body) >= LARGE:
        return WeightFile(path, len(body), sha256=hashlib.sha256(body).hexdigest())
    return WeightFile(path, len(body), blob_id=blob_id(body))


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub  # of the subclass that a server is made with

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append((path, {name.lower(): value for name, value in self.headers.items()}))
        if refusal := self._refusal(path):
            self._answer(refusal[0], b"", {"X-Error-Code": refusal[1]})
        elif path.startswith("/storage/"):
            self._storage(path.removeprefix("/storage/"))
        elif path.startswith(f"/api/models/{self.hub.repository}/tree/"):
            self._answer(200, json.dumps(self.hub.tree()).encode())
        elif path.startswith("/api/models/"):
            self._answer(200, json.dumps(self.hub.listing()).encode())
        else:
            self._resolve(path)

    def _refusal(self, path: str) -> tuple[int, str] | None:
        hub = self.hub
        if hub.down:
            return 503, ""
        if path.startswith("/storage/"):
            return (hub.storage_refusal, "") if hub.storage_refusal else None
        if hub.missing:
            return 404, "RepoNotFound"
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return hub.refusal
        return None

    def _resolve(self, path: str) -> None:
        name = path.removeprefix(f"/{self.hub.repository}/resolve/").partition("/")[2]
        if name not in self.hub.files:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        # To another host by name: the token must not follow.
        storage = self.hub.endpoint.replace("127.0.0.1", "localhost")
        self._answer(302, b"", {"Location": f"{storage}/storage/{name}"})

    def _storage(self, name: str) -> None:
        hub, body = self.hub, self.hub.files[name]
        if hub.corrupt.get(name, 0) > 0:
            hub.corrupt[name] -= 1
            body = bytes(len(body))
        start = 0 if hub.ignores_ranges else int(self.headers.get("Range", "bytes=0-")[6:].rstrip("-"))
        cut = hub.cuts.get(name)
        rest = body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: cut.pop(0)] if cut else rest)
        self.close_connection = True

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """``hub`` with its ``endpoint``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    with ServerThread(server):
        yield hub
