"""Between a node and its account: passes calls on, but for those of a service that is denied."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_OURS = frozenset({"transfer-encoding", "connection", "content-length", "host"})  # of each hop


@dataclass
class Gate:
    """``denied`` is how the targets of a service's calls begin; empty denies nothing."""

    denied: str = ""
    refused: int = 0
    servers: list[ThreadingHTTPServer] = field(default_factory=list)

    def reach(self, address: str) -> str:
        """An address by which the service there is reached through the gate."""
        port, gate = urlsplit(address).port or 80, self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                target = self.headers.get("x-amz-target", "")
                if gate.denied and target.startswith(gate.denied):
                    gate.refused += 1
                    told = {"__type": "com.amazon.coral.service#AccessDeniedException", "message": "not authorized"}
                    self._answer(400, {"content-type": "application/x-amz-json-1.0"}, json.dumps(told).encode())
                    return
                onward = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                given = {name: value for name, value in self.headers.items() if name.lower() not in _OURS}
                onward.request(self.command, self.path, body, given)
                answer = onward.getresponse()
                self._answer(answer.status, dict(answer.getheaders()), answer.read())
                onward.close()

            do_POST = do_PUT = do_GET

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in _OURS:
                        self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"


@contextmanager
def gate() -> Iterator[Gate]:
    """Open at first; closed when the node that goes through it is no longer needed."""
    made = Gate()
    try:
        yield made
    finally:
        for server in made.servers:
            server.shutdown()
            server.server_close()
